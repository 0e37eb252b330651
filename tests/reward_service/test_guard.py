"""The whole chain around a component, against wires that misbehave."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from antiphon.settings import parse
from reward_service.guards.delivery import Call
from reward_service.guards.guard import Guard, GuardConfig
from reward_service.guards.identity import Identity
from reward_service.types import NOTHING, Sample, Score, Status, Usage
from tests.reward_service.fakes_guards import (
    Tape,
    after,
    answers,
    deaf,
    failed,
    honest,
    now,
    ok,
    raises,
    run,
    sample,
    says,
)

ONE = Usage(num_requests=1, num_tokens=10, money=0.5)
NO_RETRY = {"num_retries": 0}


def guard(wire: Call, *, identity: Identity | None = None, estimate: Any = None, **config: Any) -> Guard:
    extra = {} if estimate is None else {"estimate": estimate}
    return Guard(
        wire,
        identity or Identity(name="x"),
        parse(GuardConfig, config),
        clock=now,
        wall_clock=now,
        rng=random.Random(0),
        **extra,
    )


def outcome(scores: Sequence[Score]) -> list[tuple[str, str, float | None]]:
    return [(s.id, s.status.value, s.value) for s in scores]


# What the wire may do.


def test_scores_come_back_by_id_in_the_order_of_the_samples() -> None:
    async def reversed_twice_and_more(samples: Sequence[Sample]) -> list[Score]:
        strangers = [Score(id="stranger", status=Status.OK, value=99.0), "no score"]
        return [*strangers, *(ok(s) for s in reversed(samples)), *(ok(s, value=-1.0) for s in samples)]

    scores = run(guard(Tape(reversed_twice_and_more)).score([sample("1"), sample("2"), sample("3")], 10.0))
    assert outcome(scores) == [("1", "ok", 1.0), ("2", "ok", 2.0), ("3", "ok", 3.0)]


def test_a_sample_that_the_answer_leaves_out_is_asked_for_again_alone() -> None:
    async def forgetful(samples: Sequence[Sample]) -> list[Score]:
        return [ok(s) for s in samples if s.id != "2"]

    wire = Tape(forgetful)
    scores = run(guard(wire).score([sample("1"), sample("2")], 10.0))
    assert [s.value for s in scores] == [1.0, 2.0]
    assert wire.sent == [["1", "2"], ["2"]]


@pytest.mark.parametrize(
    ("turn", "status", "message"),
    [
        (raises(TimeoutError("the judge sleeps")), Status.TIMEOUT, "the judge sleeps"),
        (raises(TimeoutError()), Status.TIMEOUT, "no answer within the deadline"),
        (raises(ConnectionError("replica died")), Status.ERROR, "the component was lost: replica died"),
        (raises(ZeroDivisionError("over nought")), Status.ERROR, "ZeroDivisionError: over nought"),
        (raises(asyncio.CancelledError()), Status.ERROR, "cancelled on its way"),
        (answers(None), Status.ERROR, "TypeError"),
        (answers([]), Status.ERROR, "left the sample out"),
        (answers(["1", None, 3]), Status.ERROR, "left the sample out"),
        (after(11.0), Status.TIMEOUT, "no answer within the deadline"),
        (deaf, Status.TIMEOUT, "no answer within the deadline"),
    ],
)
def test_whatever_the_wire_does_becomes_a_status(turn: Any, status: Status, message: str) -> None:
    async def main() -> Score:
        (score,) = await guard(Tape(turn), retry=NO_RETRY).score([sample("1")], 10.0)
        assert now() <= 10.0
        return score

    score = run(main())
    assert (score.status, score.value) == (status, None)
    assert message in score.message


def test_a_call_that_is_not_even_awaitable_becomes_a_status() -> None:
    def sync(samples: Sequence[Sample], deadline: float) -> Any:
        return [ok(s) for s in samples]

    (score,) = run(guard(sync, retry=NO_RETRY).score([sample("1")], 10.0))
    assert score.status is Status.ERROR


def test_a_late_wire_is_cancelled() -> None:
    wire = Tape(after(11.0))

    async def main() -> None:
        await guard(wire, retry=NO_RETRY).score([sample("1")], 10.0)
        await asyncio.sleep(0)
        assert (wire.num_cancelled, now()) == (1, 10.0)

    run(main())


def test_two_samples_with_one_id_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="have the id 'a'"):
        run(guard(honest_wire).score([sample("1", id="a"), sample("2", id="a")], 10.0))


def test_no_samples_need_no_call() -> None:
    wire = Tape()
    assert run(guard(wire).score([], 10.0)) == []
    assert wire.sent == []


def test_a_deadline_that_has_passed_sends_nothing_and_speaks_not_against_the_component() -> None:
    wire = Tape()

    async def main() -> None:
        g = guard(wire, breaker={"min_calls": 1})
        scores = await g.score([sample("1")], 0.0)
        assert [s.status for s in scores] == [Status.TIMEOUT]
        assert (wire.sent, g.stats()["breaker/state"]) == ([], 0.0)

    run(main())


def test_without_a_deadline_a_breakpoint_can_be_sat_upon() -> None:
    (score,) = run(guard(Tape(after(5e4))).score([sample("1")], float("inf")))
    assert score.value == 1.0


async def honest_wire(samples: Sequence[Sample], deadline: float) -> list[Score]:
    return await honest(samples)


# Cache and flights.


def test_what_was_scored_is_not_asked_for_again_and_costs_nothing() -> None:
    wire = Tape(says(Status.OK, usage=ONE))

    async def main() -> list[Score]:
        g = guard(wire)
        first = await g.score([sample("1", id="a")], 10.0)
        again = await g.score([sample("1", id="b"), sample("2", id="c")], 10.0)
        assert g.stats()["cache/hit_ratio"] == pytest.approx(1 / 3)
        return first + again

    first, hit, other = run(main())
    assert (first.id, first.value, first.usage, first.latency_s) == ("a", 1.0, ONE, 0.5)
    assert (hit.id, hit.value, hit.parts, hit.usage, hit.latency_s) == ("b", 1.0, {"x": 1.0}, NOTHING, 0.0)
    assert (other.id, other.value) == ("c", 2.0)
    assert wire.sent == [["a"], ["c"]]


def test_failures_are_not_remembered() -> None:
    wire = Tape(says(Status.INVALID_INPUT))

    async def main() -> None:
        g = guard(wire)
        await g.score([sample("1")], 10.0)
        assert (await g.score([sample("1")], 10.0))[0].is_ok

    run(main())
    assert len(wire.sent) == 2


def test_identical_samples_of_one_request_are_sent_once_and_cost_once() -> None:
    wire = Tape(says(Status.OK, usage=ONE))
    scores = run(guard(wire).score([sample("1", id="a"), sample("2", id="b"), sample("1", id="c")], 10.0))
    assert wire.sent == [["a", "b"]]
    assert outcome(scores) == [("a", "ok", 1.0), ("b", "ok", 2.0), ("c", "ok", 1.0)]
    assert [s.usage for s in scores] == [ONE, ONE, NOTHING]


def test_a_repeat_is_another_judgement() -> None:
    wire = Tape()
    run(guard(wire).score([sample("1", id="a"), sample("1", id="a#1", repeat=1)], 10.0))
    assert wire.sent == [["a", "a#1"]]


@pytest.mark.parametrize("max_entries", [0, 100])
def test_requests_side_by_side_share_what_is_in_flight(max_entries: int) -> None:
    wire = Tape(after(1.0, says(Status.OK, usage=ONE)))

    async def main() -> Any:
        g = guard(wire, cache={"max_entries": max_entries})
        # The ids are the same too, as those of two runs that share a service may be.
        return await asyncio.gather(
            g.score([sample("1", id="a")], 10.0),
            g.score([sample("2", id="b"), sample("1", id="a")], 10.0),
        )

    (first,), (_, second) = run(main())
    assert wire.sent == [["a"], ["b"]]
    assert (first.value, second.value) == (1.0, 1.0)
    assert (first.usage, second.usage) == (ONE, NOTHING)


def test_a_request_that_waits_for_anothers_flight_still_keeps_its_own_deadline() -> None:
    wire = Tape(after(5.0))

    async def main() -> None:
        g = guard(wire)
        patient = asyncio.create_task(g.score([sample("1")], 10.0))
        await asyncio.sleep(0)
        (score,) = await g.score([sample("1")], 2.0)
        assert (score.status, now()) == (Status.TIMEOUT, 2.0)
        assert (await patient)[0].value == 1.0

    run(main())
    assert len(wire.sent) == 1


def test_when_a_request_runs_out_of_time_one_that_waits_takes_over() -> None:
    wire = Tape(after(5.0))

    async def main() -> None:
        g = guard(wire)
        hasty = asyncio.create_task(g.score([sample("1")], 2.0))
        await asyncio.sleep(0)
        (score,) = await g.score([sample("1")], 10.0)
        assert score.value == 1.0
        assert (await hasty)[0].status is Status.TIMEOUT

    run(main())
    assert wire.times == [0.0, 2.0]


def test_when_a_caller_leaves_one_that_waits_takes_over_and_nothing_is_left_behind() -> None:
    wire = Tape(after(5.0))

    async def main() -> None:
        g = guard(wire)
        leaving = asyncio.create_task(g.score([sample("1")], 10.0))
        waiting = asyncio.create_task(g.score([sample("1")], 10.0))
        await asyncio.sleep(1.0)
        leaving.cancel()
        assert (await waiting)[0].value == 1.0
        assert g.stats()["flights/num_in_flight"] == 0

    run(main())
    assert (wire.times, wire.num_cancelled) == ([0.0, 1.0], 1)


def test_what_is_scored_is_there_for_others_while_its_neighbours_are_still_tried() -> None:
    async def half(samples: Sequence[Sample]) -> list[Score]:
        return [ok(s) if s.id == "1" else failed(s) for s in samples]

    async def main() -> None:
        g = guard(Tape(after(1.0, half), after(5.0)), cache={"max_entries": 0})
        busy = asyncio.create_task(g.score([sample("1"), sample("2")], 10.0))
        await asyncio.sleep(0)
        (score,) = await g.score([sample("1", id="other")], 10.0)
        assert (score.id, score.value, now()) == ("other", 1.0, 1.0)
        await busy

    run(main())


def test_a_shared_failure_is_shared_once_and_not_tried_by_all() -> None:
    wire = Tape(after(1.0, says(Status.INVALID_INPUT)))

    async def main() -> Any:
        g = guard(wire)
        return await asyncio.gather(*(g.score([sample("1", id=name)], 10.0) for name in "abc"))

    assert [scores[0].status for scores in run(main())] == [Status.INVALID_INPUT] * 3
    assert len(wire.sent) == 1


# Samples that are compared with each other.


def test_compared_samples_are_sent_and_tried_again_with_their_whole_group() -> None:
    async def half(samples: Sequence[Sample]) -> list[Score]:
        return [failed(s) if s.id == "b" else ok(s) for s in samples]

    wire = Tape(half)
    comparing = Identity(name="x", is_comparative=True)
    group = [sample("1", id="a", group="g"), sample("2", id="b", group="g")]
    twins = [sample("3", id="c", group="h"), sample("3", id="d", group="h")]

    async def main() -> None:
        g = guard(wire, identity=comparing)
        scores = await g.score([*group, *twins], 10.0)
        assert outcome(scores) == [("a", "ok", 1.0), ("b", "ok", 2.0), ("c", "ok", 3.0), ("d", "ok", 3.0)]
        # All in one group again: remembered. One of them in other company: not.
        await g.score(group[::-1], 10.0)
        await g.score([group[0], sample("9", id="z", group="g")], 10.0)

    run(main())
    assert wire.sent == [["a", "b", "c", "d"], ["a", "b"], ["a", "z"]]


# Retries.


@pytest.mark.parametrize(
    ("status", "num_calls"),
    [
        (Status.ERROR, 2),
        (Status.TIMEOUT, 2),
        (Status.UNPARSEABLE, 2),
        (Status.INVALID_INPUT, 1),
        (Status.OVER_BUDGET, 1),
    ],
)
def test_what_may_be_otherwise_next_time_is_tried_again(status: Status, num_calls: int) -> None:
    wire = Tape(says(status))
    (score,) = run(guard(wire).score([sample("1")], 10.0))
    assert len(wire.sent) == num_calls
    assert score.is_ok == (num_calls == 2)


def test_all_attempts_are_paid_for() -> None:
    wire = Tape(
        says(Status.UNPARSEABLE, usage=ONE), says(Status.UNPARSEABLE, usage=ONE), says(Status.OK, usage=ONE)
    )
    (score,) = run(guard(wire).score([sample("1")], 10.0))
    assert score.usage == Usage(num_requests=3, num_tokens=30, money=1.5)


def test_an_attempt_that_hangs_leaves_time_for_another() -> None:
    wire = Tape(after(99.0))
    (score,) = run(guard(wire, retry={"attempt_s": 3.0, "first_backoff_s": 0.0}).score([sample("1")], 10.0))
    assert score.value == 1.0
    assert wire.times == [0.0, 3.0]


# Breaker.


def test_a_component_that_keeps_failing_is_left_alone_until_a_probe_passes() -> None:
    wire = Tape(*[raises(ConnectionError("gone"))] * 3)

    async def main() -> None:
        g = guard(wire, breaker={"min_calls": 3, "open_s": 10.0}, retry=NO_RETRY)
        for i in range(3):
            await g.score([sample(str(i))], 100.0)
        (refused,) = await g.score([sample("4")], 100.0)
        assert (refused.status, now()) == (Status.ERROR, 0.0)
        assert refused.message.startswith("circuit open")
        await asyncio.sleep(10.0)
        assert g.stats()["breaker/state"] == 0.5
        assert (await g.score([sample("4")], 100.0))[0].is_ok
        assert g.stats()["breaker/state"] == 0.0

    run(main())
    assert len(wire.sent) == 4


def test_an_open_circuit_is_not_retried_and_keeps_what_the_component_said() -> None:
    wire = Tape(*[raises(ConnectionError("gone"))] * 3)

    async def main() -> None:
        # The second failure opens the circuit in the midst of the retries.
        g = guard(wire, breaker={"min_calls": 2}, retry={"num_retries": 5})
        (score,) = await g.score([sample("1")], 100.0)
        assert score.message == "the component was lost: gone"
        begin = now()
        (refused,) = await g.score([sample("1")], 100.0)
        assert refused.message.startswith("circuit open")
        assert now() == begin

    run(main())
    assert len(wire.sent) == 2


@pytest.mark.parametrize("status", list(Status))
def test_only_error_and_timeout_speak_against_a_component(status: Status) -> None:
    async def main() -> None:
        g = guard(Tape(*[says(status)] * 3), breaker={"min_calls": 1}, retry=NO_RETRY)
        for i in range(3):
            await g.score([sample(str(i))], 100.0)
        assert (g.stats()["breaker/state"] == 1.0) == (status in (Status.ERROR, Status.TIMEOUT))

    run(main())


def test_a_probe_whose_caller_leaves_makes_room_for_another() -> None:
    wire = Tape(raises(ConnectionError("gone")), after(50.0))

    async def main() -> None:
        g = guard(wire, breaker={"min_calls": 1, "open_s": 10.0}, retry=NO_RETRY)
        await g.score([sample("1")], 100.0)
        await asyncio.sleep(10.0)
        probe = asyncio.create_task(g.score([sample("2")], 100.0))
        await asyncio.sleep(1.0)
        assert (await g.score([sample("3")], 100.0))[0].message.startswith("circuit open")
        probe.cancel()
        await asyncio.sleep(0)
        assert (await g.score([sample("3")], 100.0))[0].is_ok

    run(main())


# Budget.


def test_what_the_budget_does_not_allow_is_not_sent() -> None:
    wire = Tape(says(Status.OK, usage=ONE))

    async def main() -> None:
        # Each costs 0.5: two of three fit into 1.2.
        g = guard(wire, estimate=lambda s: ONE, budget={"max_money": 1.2})
        scores = await g.score([sample("1"), sample("2"), sample("3")], 1e6)
        assert [s.status for s in scores] == [Status.OK, Status.OK, Status.OVER_BUDGET]
        assert "max_money 1.2" in scores[2].message
        # What is remembered costs nothing, and an hour later there is room again.
        assert (await g.score([sample("1")], 1e6))[0].is_ok
        await asyncio.sleep(3610.0)
        assert (await g.score([sample("3")], 1e6))[0].is_ok

    run(main())
    assert wire.sent == [["1", "2"], ["3"]]


def test_calls_side_by_side_cannot_overspend_together() -> None:
    wire = Tape(*[after(1.0, says(Status.OK, usage=ONE))] * 3)

    async def main() -> Any:
        g = guard(wire, estimate=lambda s: ONE, budget={"max_requests": 2})
        return await asyncio.gather(*(g.score([sample(c)], 10.0) for c in "123"))

    assert [s[0].status for s in run(main())] == [Status.OK, Status.OK, Status.OVER_BUDGET]


def test_what_was_estimated_too_high_is_given_back() -> None:
    wire = Tape(*[says(Status.OK, usage=ONE)] * 3)

    async def main() -> None:
        g = guard(wire, estimate=lambda s: ONE + ONE + ONE, budget={"max_requests": 4})
        # 3 reserved, 1 spent; 1 + 3 fit; 2 + 3 do not.
        assert [(await g.score([sample(c)], 10.0))[0].status for c in "123"] == [
            Status.OK,
            Status.OK,
            Status.OVER_BUDGET,
        ]
        assert g.stats()["budget/money"] == 1.0

    run(main())


def test_what_timed_out_stays_paid_and_what_failed_at_once_does_not() -> None:
    async def main() -> list[float]:
        spent = []
        for turn in (after(99.0), raises(ConnectionError("gone"))):
            g = guard(Tape(turn), estimate=lambda s: ONE, budget={"max_requests": 9}, retry=NO_RETRY)
            await g.score([sample("1")], now() + 10.0)
            spent.append(g.stats()["budget/num_requests"])
        return spent

    assert run(main()) == [1, 0]


def test_a_retry_that_the_budget_does_not_allow_keeps_the_verdict_before() -> None:
    wire = Tape(says(Status.UNPARSEABLE, usage=ONE))
    g = guard(wire, estimate=lambda s: ONE, budget={"max_requests": 1})
    (score,) = run(g.score([sample("1")], 10.0))
    assert (score.status, score.usage) == (Status.UNPARSEABLE, ONE)
    assert len(wire.sent) == 1


def test_an_estimate_that_breaks_is_an_error_of_its_sample_alone() -> None:
    def breaks(s: Sample) -> Usage:
        return {"1": ONE}[s.id]

    g = guard(Tape(), estimate=breaks, budget={"max_requests": 9}, retry=NO_RETRY)
    scores = run(g.score([sample("1"), sample("2")], 10.0))
    assert [s.status for s in scores] == [Status.OK, Status.ERROR]
    assert "cost cannot be estimated: KeyError" in scores[1].message


def test_a_compared_group_is_sent_whole_or_not_at_all() -> None:
    wire = Tape()
    group = [sample(c, group="g") for c in "123"]
    g = guard(
        wire,
        identity=Identity(name="x", is_comparative=True),
        estimate=lambda s: ONE,
        budget={"max_requests": 4},
    )
    scores = run(g.score([*group, *(sample(c, group="h") for c in "45"), sample("6", group="i")], 10.0))
    # 3 of 4 requests for the first group; the second would need 2; the third needs 1.
    assert [s.is_ok for s in scores] == [True, True, True, False, False, True]


def test_spending_survives_a_restart() -> None:
    async def main() -> None:
        g = guard(Tape(says(Status.OK, usage=ONE)), estimate=lambda s: ONE, budget={"max_requests": 1})
        await g.score([sample("1")], 10.0)
        restarted = guard(Tape(), estimate=lambda s: ONE, budget={"max_requests": 1})
        restarted.load_state_dict(g.state_dict())
        assert (await restarted.score([sample("2")], 10.0))[0].status is Status.OVER_BUDGET

    run(main())


# Hedge.


def test_where_the_first_request_is_slow_the_second_may_win() -> None:
    wire = Tape(after(5.0))

    async def main() -> None:
        g = guard(wire, hedge={"after_s": 1.0})
        (score,) = await g.score([sample("1")], 10.0)
        await asyncio.sleep(0)
        assert (score.value, now()) == (1.0, 1.0)
        assert (g.stats()["hedge/num_hedges"], g.stats()["hedge/num_wins"]) == (1, 1)
        assert (wire.sent, wire.num_cancelled) == ([["1"], ["1"]], 1)

    run(main())


def test_the_first_request_may_still_win() -> None:
    wire = Tape(after(2.0), after(5.0))

    async def main() -> None:
        g = guard(wire, hedge={"after_s": 1.0})
        (score,) = await g.score([sample("1")], 10.0)
        await asyncio.sleep(0)
        assert (score.value, now(), g.stats()["hedge/num_wins"]) == (1.0, 2.0, 0)
        assert wire.num_cancelled == 1

    run(main())


def test_a_quick_answer_is_not_hedged() -> None:
    wire = Tape(after(0.5))
    run(guard(wire, hedge={"after_s": 1.0}).score([sample("1")], 10.0))
    assert len(wire.sent) == 1


@pytest.mark.parametrize(
    "turns",
    [
        (after(2.0, raises(ConnectionError("gone"))), after(3.0)),
        (after(5.0), after(1.0, raises(ConnectionError("gone")))),
    ],
)
def test_a_request_that_is_lost_leaves_the_word_to_the_other(turns: Any) -> None:
    wire = Tape(*turns)
    (score,) = run(guard(wire, hedge={"after_s": 1.0}, retry=NO_RETRY).score([sample("1")], 10.0))
    assert score.value == 1.0


def test_when_both_requests_are_lost_the_sample_says_why() -> None:
    wire = Tape(*[after(2.0, raises(ConnectionError("gone")))] * 2)
    (score,) = run(guard(wire, hedge={"after_s": 1.0}, retry=NO_RETRY).score([sample("1")], 10.0))
    assert score.message == "the component was lost: gone"


def test_a_second_request_is_paid_for_and_not_made_beyond_the_budget() -> None:
    async def main() -> list[Any]:
        seen = []
        for limit in (1, 2):
            wire = Tape(after(5.0, says(Status.OK, usage=ONE)), says(Status.OK, usage=ONE))
            g = guard(wire, hedge={"after_s": 1.0}, estimate=lambda s: ONE, budget={"max_requests": limit})
            await g.score([sample("1")], now() + 10.0)
            seen.append((len(wire.sent), g.stats()["budget/num_requests"]))
        return seen

    assert run(main()) == [(1, 1), (2, 2)]


# Numbers.


def test_what_happened_is_counted() -> None:
    async def mixed(samples: Sequence[Sample]) -> list[Score]:
        return [failed(s, Status.INVALID_INPUT) if s.id == "2" else ok(s, usage=ONE) for s in samples]

    async def main() -> None:
        g = guard(Tape(raises(ConnectionError("gone")), mixed))
        await g.score([sample("1"), sample("2"), sample("3")], 10.0)
        await g.score([sample("1", id="a")], 10.0)
        expected = {
            "cache/num_hits": 1,
            "cache/num_misses": 3,
            "cache/num_entries": 2,
            "retry/num_retries": 3,
            "breaker/state": 0.0,
            "budget/num_requests": 2,
            "budget/money": 1.0,
            "scores/num_ok": 3,
            "scores/num_invalid_input": 1,
            "scores/num_error": 0,
            # 0.5 s for each of the two that the component scored, nothing for the one remembered.
            "scores/latency_s": 1.0,
        }
        assert {name: g.stats()[name] for name in expected} == expected

    run(main())
