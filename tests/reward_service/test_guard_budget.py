"""The budget of an hour, by a clock that is set by hand."""

import json
from typing import Any

import pytest

from antiphon.settings import parse
from reward_service.guards.budget import Budget, BudgetConfig, Reservation
from reward_service.types import NOTHING, Usage


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


def budget(**config: Any) -> tuple[Budget, Clock]:
    clock = Clock()
    return Budget(parse(BudgetConfig, config), clock), clock


def usage(num_requests: int = 0, num_tokens: int = 0, money: float = 0.0) -> Usage:
    return Usage(num_requests=num_requests, num_tokens=num_tokens, money=money)


def reserved(b: Budget, amount: Usage) -> Reservation:
    reservation = b.reserve(amount)
    assert reservation is not None
    return reservation


@pytest.mark.parametrize(
    ("limit", "amount"),
    [
        ({"max_requests": 3}, usage(1)),
        ({"max_tokens": 30}, usage(1, 10)),
        ({"max_money": 0.3}, usage(1, 0, 0.1)),
    ],
)
def test_each_limit_holds_for_itself(limit: dict[str, Any], amount: Usage) -> None:
    # Three times 0.1 is 0.30000000000000004, and still within 0.3.
    b, _ = budget(**limit)
    assert [b.reserve(amount) is not None for _ in range(4)] == [True, True, True, False]
    assert b.stats()["num_refused"] == 1


def test_what_exceeds_the_limit_alone_is_refused_from_the_start() -> None:
    b, _ = budget(max_tokens=100)
    assert b.reserve(usage(num_tokens=101)) is None
    assert b.spent == NOTHING


def test_without_limits_everything_is_allowed_and_counted() -> None:
    b, _ = budget()
    reserved(b, usage(10**6, 10**9, 1e6))
    assert b.spent == usage(10**6, 10**9, 1e6)


def test_settling_replaces_the_reservation_by_what_was_spent() -> None:
    b, _ = budget(max_requests=10)
    first, second = reserved(b, usage(4)), reserved(b, usage(4))
    b.settle(first, usage(1, 7, 0.5))
    assert b.spent == usage(5, 7, 0.5)
    b.settle(second, usage(9))
    # More than was estimated counts too: ten are spent, and nothing is left even for what is free.
    assert b.spent.num_requests == 10
    assert b.reserve(NOTHING) is None


def test_an_hour_slides() -> None:
    b, clock = budget(max_requests=2)
    reserved(b, usage(1))
    clock.now += 1800.0
    reserved(b, usage(1))
    assert b.reserve(usage(1)) is None
    # 1e9 s begins a slot of ten seconds, which counts until all of it is an hour old.
    clock.now = 1e9 + 3609.9
    assert b.spent.num_requests == 2
    clock.now = 1e9 + 3610.0
    assert b.spent.num_requests == 1
    reserved(b, usage(1))
    assert b.reserve(usage(1)) is None


def test_what_is_settled_later_stays_dated_at_its_reservation() -> None:
    b, clock = budget()
    reservation = reserved(b, usage(5))
    clock.now += 100.0
    b.settle(reservation, usage(2))
    assert b.spent.num_requests == 2
    clock.now = 1e9 + 3610.0
    assert b.spent == NOTHING


def test_what_is_settled_after_more_than_an_hour_changes_nothing() -> None:
    b, clock = budget()
    reservation = reserved(b, usage(5))
    clock.now += 4000.0
    reserved(b, usage(1))
    b.settle(reservation, usage(2))
    assert b.spent.num_requests == 1


def test_a_clock_that_is_set_back_forgets_nothing() -> None:
    b, clock = budget(max_requests=2)
    reserved(b, usage(1))
    clock.now -= 600.0
    reserved(b, usage(1))
    assert b.reserve(usage(1)) is None


def test_the_state_is_json_and_restores_the_spending() -> None:
    b, clock = budget(max_money=1.0)
    reserved(b, usage(1, 10, 0.25))
    clock.now += 1000.0
    reserved(b, usage(2, 20, 0.5))
    other, other_clock = budget(max_money=1.0)
    other_clock.now = clock.now
    other.load_state_dict(json.loads(json.dumps(b.state_dict())))
    assert other.spent == usage(3, 30, 0.75)
    other_clock.now = 1e9 + 3610.0
    assert other.spent == usage(2, 20, 0.5)


def test_a_state_that_is_old_when_it_is_loaded_is_forgotten() -> None:
    b, _ = budget()
    reserved(b, usage(1))
    other, other_clock = budget()
    other_clock.now += 7200.0
    assert other.spent == NOTHING
    other.load_state_dict(b.state_dict())
    assert other.spent == NOTHING


def test_who_is_refused_is_told_how_much_is_spent_of_what() -> None:
    b, _ = budget(max_requests=2, max_money=5.0)
    reserved(b, usage(2, 0, 1.5))
    assert b.why() == "the budget of this hour does not allow it: 2 of max_requests 2, 1.5 of max_money 5"
