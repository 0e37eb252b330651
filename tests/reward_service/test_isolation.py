"""The pool of child processes: what hangs, dies or cheats costs its own sample and nothing else."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from antiphon.errors import UserError
from antiphon.plugins import built_in
from reward_service.building import COMPONENTS, build_reward, import_path
from reward_service.isolation.config import IsolationConfig
from reward_service.isolation.pool import Pool
from reward_service.isolation.wire import MAX_MESSAGE_CHARS
from reward_service.reward import Reward
from reward_service.types import Score, Status
from tests.reward_service.fakes_isolation import HERE
from tests.reward_service.fakes_processes import A_LOT_S, is_alive
from tests.reward_service.fakes_rewards import NEEDED_OPTIONS, sample

DEADLINE_S = 2.0
"""For one sample; long enough for a fork on a machine that has other things to do."""
UNRULY = (f"{HERE}:unruly", dict[str, Any]())


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    components = {
        "unruly": UNRULY,
        "faithful": (f"{HERE}:Faithful", {}),
        "other": (f"{HERE}:Faithful", {"ids": False}),
        "regex": ("regex", {"pattern": "(a+)+b"}),
    }
    with closing(Pool(components, config())) as pool:
        pool.wait_until_started(time.monotonic() + A_LOT_S)
        yield pool


def config(**settings: Any) -> IsolationConfig:
    return IsolationConfig(**{"deadline_s": DEADLINE_S, "memory_mb": 256, **settings})


def score(pool: Pool, *completions: str, label: str = "unruly", within_s: float = A_LOT_S) -> list[Score]:
    samples = [sample(text, id=str(i)) for i, text in enumerate(completions)]
    return pool.score(label, samples, time.monotonic() + within_s)


def values(scores: list[Score]) -> list[float | None]:
    return [s.value for s in scores]


def test_hundreds_of_ordinary_samples_are_scored_in_order_by_the_same_few_processes(pool: Pool) -> None:
    before = pool.stats()
    scores = score(pool, *map(str, range(500)))
    assert values(scores) == list(range(500))
    assert [s.id for s in scores] == [str(i) for i in range(500)]
    after = pool.stats()
    assert after["unruly/samples_total"] - before["unruly/samples_total"] == 500
    assert after["unruly/forks_total"] - before["unruly/forks_total"] <= config().num_workers


@pytest.mark.parametrize("completion", ["rich", "invalid", "unparseable", "late", "raise"])
def test_a_score_is_what_it_would_be_in_this_process(pool: Pool, completion: str) -> None:
    what = sample(completion, metadata={"number": (1, 2)})
    (there,) = pool.score("faithful", [what], time.monotonic() + A_LOT_S)
    (here,) = build_reward(f"{HERE}:Faithful", {}, "").score([what])
    assert (there.id, there.status, there.value, there.parts) == (
        here.id,
        here.status,
        here.value,
        here.parts,
    )
    assert (there.usage, there.message) == (here.usage, here.message)
    if completion == "rich":
        assert (there.value, there.latency_s, there.usage.num_tokens) == (2.0, 0.25, 7)


def test_a_score_for_another_sample_is_none(pool: Pool) -> None:
    what = sample("rich", metadata={"number": (1, 2)})
    (verdict,) = pool.score("other", [what], time.monotonic() + A_LOT_S)
    assert (verdict.status, verdict.message) == (Status.ERROR, "it gave no score for the sample")


FRAMED = "\x00\x00\x00\x02{}"
UNASKED = '{"number":99999999,"score":{"id":"","status":"ok","value":1.0},"is_last":false}'


@pytest.mark.parametrize(
    ("misdeed", "message"),
    [
        ("signal:9", "its process died by SIGKILL"),
        ("segfault", "its process died by SIGSEGV"),
        ("signal:40", "its process died by signal 40"),
        ("exit", "SystemExit: 3"),
        ("exit now", "its process ended by itself with exit code 3"),
        ("half", "its process ended by itself with exit code 0"),
        ("eat", "needed more than the 256 MiB that a worker may allocate"),
        ("forge:garbage", "its process announced an answer of 1734439522 bytes, more than 65536"),
        (f"forge:{FRAMED}", "its process wrote what is no answer: b'{}'"),
        (f"forge:\x00\x00\x00{chr(len(UNASKED))}{UNASKED}", "its process answered what it was not asked"),
        ("huge", "ValueError: xxxxxxxx"),
        ("surrogate", "ValueError: ? is half a character"),
    ],
)
def test_a_misdeed_is_an_error_of_its_own_sample_and_of_no_other(
    pool: Pool, misdeed: str, message: str
) -> None:
    scores = score(pool, "1", "2", misdeed, "3", "4", "5")
    assert (scores[2].status, scores[2].value) == (Status.ERROR, None)
    assert scores[2].message.startswith(message)
    assert len(scores[2].message) <= MAX_MESSAGE_CHARS
    assert values(scores) == [1.0, 2.0, None, 3.0, 4.0, 5.0]


def test_what_a_component_prints_does_not_reach_its_answers(pool: Pool) -> None:
    assert values(score(pool, "print", "2", "print")) == [1.0, 2.0, 1.0]


HANGING = ("spin", "regex", "nap:600") * 2
"""More than there are workers."""


def test_what_hangs_is_killed_at_the_deadline(pool: Pool) -> None:
    start = time.monotonic()
    scores = score(pool, *HANGING)
    # Six side by side; with two workers alone they would take three deadlines.
    assert DEADLINE_S <= time.monotonic() - start < 3 * DEADLINE_S
    assert {(s.status, s.message) for s in scores} == {
        (Status.TIMEOUT, "took longer than 2 s and was killed")
    }


def test_the_neighbours_of_what_hangs_do_not_wait_for_the_deadline() -> None:
    with closing(Pool({"unruly": UNRULY}, config(deadline_s=2 * A_LOT_S))) as pool:
        samples = [sample(text, id=str(i)) for i, text in enumerate(HANGING)]
        hanging = pool.submit("unruly", samples, time.monotonic() + 2 * A_LOT_S)
        assert values(score(pool, *map(str, range(40)))) == list(range(40))
        assert not hanging.done()


def test_a_catastrophic_pattern_costs_one_sample(pool: Pool) -> None:
    scores = score(pool, "ab", "a" * 40, "b", "xaab", label="regex")
    assert (scores[1].status, scores[1].message) == (Status.TIMEOUT, "took longer than 2 s and was killed")
    assert values(scores) == [1.0, None, 0.0, 1.0]


def test_alarms_reach_the_component_and_do_not_outlive_their_sample() -> None:
    with closing(Pool({"unruly": UNRULY}, config(num_workers=1))) as pool:
        scores = score(pool, "thread", "alarm:0.05", "leave alarm", "nap:0.2", "3")
        # An alarm that was left would end the nap by SIGALRM.
        assert values(scores) == [1.0, None, 1.0, 1.0, 3.0]
        assert scores[1].message.startswith("TimeoutError: rang")
        assert scores[1].status is Status.TIMEOUT


def test_a_request_is_answered_by_its_deadline_whatever_is_left(pool: Pool) -> None:
    start = time.monotonic()
    scores = score(pool, *["nap:0.3"] * 600, within_s=1.5)
    # All of them would take 18 s with the ten workers that there may be.
    assert time.monotonic() - start < 15.0
    kinds = {(s.status, s.message) for s in scores}
    assert (Status.TIMEOUT, "was not reached before the deadline of its request") in kinds
    assert (Status.OK, "") in kinds
    assert len(kinds) <= 3, "done, at work when the deadline came, or not begun"
    assert values(score(pool, "7")) == [7.0]


def test_a_sample_at_work_when_its_request_ends_is_killed(pool: Pool) -> None:
    killed = pool.stats()["unruly/kills_total"]
    (verdict,) = score(pool, "nap:600", within_s=0.5)
    assert verdict.status is Status.TIMEOUT
    assert verdict.message == "was not done by the deadline of its request, and was killed"
    assert pool.stats()["unruly/kills_total"] == killed + 1


def test_samples_larger_than_any_buffer_arrive_whole(pool: Pool) -> None:
    large = [sample("a" * 3_000_000 + "b" * (i % 2), id=str(i)) for i in range(6)]
    wanted = build_reward("regex", {"pattern": "b"}, "")
    with closing(Pool({"regex": ("regex", {"pattern": "b"})}, config())) as pool:
        got = pool.score("regex", large, time.monotonic() + A_LOT_S)
    assert values(got) == values(wanted.score(large)) == [0.0, 1.0] * 3


def test_a_sample_that_cannot_travel_is_invalid_and_the_others_travel(pool: Pool) -> None:
    samples = [sample("1", id="a"), sample("2", id="b", metadata={"f": lambda: 0}), sample("3", id="c")]
    scores = pool.score("unruly", samples, time.monotonic() + A_LOT_S)
    assert [s.status for s in scores] == [Status.OK, Status.INVALID_INPUT, Status.OK]
    assert "the sample cannot be sent to a worker" in scores[1].message


def test_an_empty_request_is_answered(pool: Pool) -> None:
    assert pool.score("unruly", [], time.monotonic()) == []


def test_a_label_that_does_not_exist_is_a_mistake(pool: Pool) -> None:
    with pytest.raises(ValueError, match="no isolated component 'rougue'"):
        score(pool, "1", label="rougue")


def test_callers_in_many_threads_get_their_own_scores_while_processes_die(pool: Pool) -> None:
    """S16: value = f(sample), whatever is killed in between."""

    def call(caller: int) -> list[float | None]:
        texts = [str(1000 * caller + i) for i in range(60)]
        texts[caller] = "signal:9"
        return values(score(pool, *texts))

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(call, range(8)))
    for caller, answer in enumerate(answers):
        wanted = [float(1000 * caller + i) for i in range(60)]
        assert answer == [None if i == caller else value for i, value in enumerate(wanted)]


def test_a_cancelled_call_leaves_the_workers_to_others() -> None:
    with closing(Pool({"unruly": UNRULY}, config(num_workers=1, num_extra_workers=0))) as pool:
        pool.wait_until_started(time.monotonic() + A_LOT_S)
        naps = [sample("nap:0.5", id=str(i)) for i in range(200)]
        cancelled = pool.submit("unruly", naps, time.monotonic() + A_LOT_S)
        assert cancelled.cancel()
        start = time.monotonic()
        assert values(score(pool, "3")) == [3.0]
        # The nap that had begun may end; two hundred would be 100 s.
        assert time.monotonic() - start < 30.0


def test_a_component_that_hangs_leaves_its_turn_to_the_others() -> None:
    components = {"unruly": UNRULY, "faithful": (f"{HERE}:Faithful", {})}
    isolation = config(num_workers=1, num_extra_workers=1, deadline_s=0.5, patience_s=0.05)
    with closing(Pool(components, isolation)) as pool:
        pool.wait_until_started(time.monotonic() + A_LOT_S)
        spins = [sample("spin", id=str(i)) for i in range(12)]
        start = time.monotonic()
        hanging = pool.submit("unruly", spins, time.monotonic() + A_LOT_S)
        assert score(pool, "late", label="faithful")[0].message.startswith("TimeoutError: so")
        assert pool.stats()["unruly/kills_total"] <= 6.0
        hanging.result()
        # Two at once, half a second each.
        assert time.monotonic() - start >= 3.0


def test_a_worker_scores_as_many_samples_as_it_may_and_leaves_nothing_behind() -> None:
    with closing(Pool({"unruly": UNRULY}, config(num_workers=1))) as pool:
        assert values(score(pool, *["remember"] * 4)) == [1.0, 2.0, 3.0, 4.0]
    with closing(Pool({"unruly": UNRULY}, config(num_workers=1, num_samples_per_worker=2))) as pool:
        assert values(score(pool, *["remember"] * 5)) == [1.0, 2.0, 1.0, 2.0, 1.0]
        assert pool.stats()["unruly/forks_total"] == 3


def test_a_worker_that_ran_out_of_memory_makes_room_for_another() -> None:
    with closing(Pool({"unruly": UNRULY}, config(num_workers=1))) as pool:
        # Quick ones first, so that all three go to one worker at once.
        before, eaten, after = score(pool, *["1"] * 200, "pid", "eat", "pid")[200:]
        assert eaten.status is Status.ERROR
        assert after.is_ok
        assert before.value != after.value


def test_output_is_shown_where_the_service_is_asked_for_it(capfd: pytest.CaptureFixture[str]) -> None:
    for shows_output in (False, True):
        with closing(Pool({"unruly": UNRULY}, config(shows_output=shows_output))) as pool:
            assert values(score(pool, "print")) == [1.0]
        captured = capfd.readouterr()
        assert captured.out == ""
        assert ('{"score": 1.0}' in captured.err) == shows_output
        assert ("garbage" in captured.err) == shows_output


def test_a_closed_pool_answers_what_it_has_and_takes_no_more() -> None:
    pool = Pool({"unruly": UNRULY}, config())
    pool.wait_until_started(time.monotonic() + A_LOT_S)
    pid = int(score(pool, "pid")[0].value or 0)
    pending = pool.submit("unruly", [sample("nap:600")], time.monotonic() + A_LOT_S)
    pool.close()
    pool.close()
    assert [(s.status, s.message) for s in pending.result()] == [
        (Status.ERROR, "the pool of workers was closed")
    ]
    assert not is_alive(pid)
    with pytest.raises(ValueError, match="closed"):
        score(pool, "1")


def test_every_isolated_component_scores_as_it_does_in_this_process() -> None:
    rewards = {name: cls for name, cls in built_in(Reward, COMPONENTS).items() if cls.placement == "isolated"}
    entry = {"question": "1 + 2 =", "answer": "3", "metadata": {"source_dataset": "chain_sum"}}
    samples = [sample(text, id=text, reference="3", metadata={"entry": entry}) for text in ("3", "4", "")]
    components = {name: (name, NEEDED_OPTIONS.get(name, {})) for name in rewards}
    with closing(
        Pool(components, config(memory_mb=1024, deadline_s=A_LOT_S, start_deadline_s=3 * A_LOT_S))
    ) as pool:
        pool.wait_until_started(time.monotonic() + 3 * A_LOT_S)
        for name, (_, options) in components.items():
            here = build_reward(name, options, "")
            here.start()
            wanted = [(s.status, s.value) for s in here.score(samples)]
            there = pool.score(name, samples, time.monotonic() + A_LOT_S)
            assert [(s.status, s.value) for s in there] == wanted, name


def test_a_process_loads_its_own_component_and_not_all_that_are_built_in() -> None:
    assert import_path("regex") == "reward_service.components.regex:Regex"
    assert import_path("my_package.rewards:polite") == "my_package.rewards:polite"


def test_an_unknown_component_is_refused_before_anything_starts() -> None:
    with pytest.raises(UserError, match="did you mean 'regex'"):
        Pool({"form": ("regexp", {})}, config())
