"""The circuit breaker, by a clock that is set by hand."""

from typing import Any

from antiphon.settings import parse
from reward_service.guards.breaker import Breaker, BreakerConfig, Permit


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def breaker(**config: Any) -> tuple[Breaker, Clock]:
    clock = Clock()
    defaults = {"max_failed_share": 0.5, "window_s": 60.0, "min_calls": 4, "open_s": 10.0}
    return Breaker(parse(BreakerConfig, {**defaults, **config}), clock), clock


def admitted(b: Breaker) -> Permit:
    permit = b.admit()
    assert permit is not None
    return permit


def calls(b: Breaker, *failed_shares: float) -> None:
    for share in failed_shares:
        admitted(b).report(share)


def opened(**config: Any) -> tuple[Breaker, Clock]:
    b, clock = breaker(min_calls=1, **config)
    calls(b, 1.0)
    return b, clock


def test_it_opens_at_the_share_and_not_below() -> None:
    b, _ = breaker()
    calls(b, 1.0, 0.9, 0.0, 0.0)  # 1.9 of 4 is below a half.
    assert b.state == "closed"
    b, _ = breaker()
    calls(b, 1.0, 1.0, 0.0, 0.0)  # 2 of 4.
    assert b.state == "open"


def test_few_calls_conclude_nothing() -> None:
    b, _ = breaker()
    calls(b, 1.0, 1.0, 1.0)
    assert b.state == "closed"
    calls(b, 1.0)
    assert b.state == "open"


def test_one_lost_batch_among_good_ones_is_one_failure() -> None:
    b, _ = breaker()
    calls(b, 0.0, 0.0, 1.0, 0.0, 0.0)
    assert b.state == "closed"


def test_what_is_older_than_the_window_does_not_count() -> None:
    b, clock = breaker()
    calls(b, 1.0, 1.0, 1.0)
    clock.now = 60.5
    calls(b, 1.0)
    assert b.state == "closed"
    calls(b, 1.0, 1.0, 1.0)
    assert b.state == "open"
    b, clock = breaker()
    calls(b, 1.0, 1.0, 1.0)
    clock.now = 60.5
    calls(b, 0.0, 0.0, 0.0, 0.0)
    assert b.state == "closed"


def test_calls_that_were_not_waited_for_do_not_count() -> None:
    b, _ = breaker(min_calls=1)
    admitted(b).report(None)
    assert b.state == "closed"


def test_an_open_circuit_refuses_and_says_until_when() -> None:
    b, clock = opened()
    clock.now = 4.0
    assert b.admit() is None
    assert b.why() == "circuit open: the component failed, and is tried again in 6.0 s"
    assert b.stats() == {"state": 1.0, "num_opened": 1, "num_refused": 1}


def test_half_open_lets_one_probe_through_and_closes_when_it_passes() -> None:
    b, clock = opened()
    clock.now = 10.0
    assert (b.state, b.would_admit()) == ("half_open", True)
    probe = admitted(b)
    assert b.admit() is None
    assert "one call is trying" in b.why()
    probe.report(0.2)
    assert (b.state, b.would_admit()) == ("closed", True)


def test_a_probe_that_fails_opens_again_for_the_whole_time() -> None:
    b, clock = opened()
    clock.now = 12.0
    admitted(b).report(0.5)
    clock.now = 21.9
    assert b.state == "open"
    clock.now = 22.0
    assert b.state == "half_open"
    assert b.stats()["num_opened"] == 2


def test_several_probes_must_all_pass() -> None:
    b, clock = opened(num_probes=2)
    clock.now = 10.0
    one, two = admitted(b), admitted(b)
    assert b.admit() is None
    one.report(0.0)
    assert (b.state, b.would_admit()) == ("half_open", False)
    two.report(0.0)
    assert b.state == "closed"


def test_a_probe_that_was_given_up_makes_room() -> None:
    b, clock = opened()
    clock.now = 10.0
    admitted(b).report(None)
    assert b.would_admit()


def test_calls_from_before_it_opened_say_nothing_about_the_probe() -> None:
    b, clock = breaker(min_calls=1)
    old, older = admitted(b), admitted(b)
    calls(b, 1.0)
    clock.now = 10.0
    probe = admitted(b)
    old.report(0.0)
    assert b.state == "half_open"
    probe.report(0.0)
    older.report(1.0)
    assert b.state == "closed"


def test_what_led_to_the_opening_is_forgotten_when_it_closes() -> None:
    b, clock = breaker(min_calls=2)
    calls(b, 1.0, 1.0)
    clock.now = 10.0
    calls(b, 0.0)
    calls(b, 1.0)
    assert b.state == "closed"
