"""Values that change with the policy version."""

import pytest

from antiphon.errors import UserError
from antiphon.schedules import ScheduleConfig, is_always, value_at
from antiphon.settings import parse


def test_a_plain_number_never_changes():
    assert value_at(0.5, 0) == value_at(0.5, 1000) == 0.5


def test_linear_moves_in_equal_steps_after_the_hold_and_then_stays():
    schedule = ScheduleConfig(start=1.0, end=0.0, num_updates=6, num_hold=2)

    assert [value_at(schedule, v) for v in (0, 2, 3, 4, 6, 9)] == [1.0, 1.0, 0.75, 0.5, 0.0, 0.0]


def test_cosine_is_halfway_at_half_time_and_slow_at_both_ends():
    schedule = ScheduleConfig(kind="cosine", start=0.0, end=2.0, num_updates=4)

    # (1 - cos(pi/4))/2 = 0.14645 of the way.
    assert value_at(schedule, 2) == pytest.approx(1.0)
    assert value_at(schedule, 1) == pytest.approx(2 * 0.146447, abs=1e-5)


def test_two_phase_jumps_at_the_named_update():
    schedule = ScheduleConfig(kind="two_phase", start=0.3, end=0.0, num_updates=5)

    assert [value_at(schedule, v) for v in (0, 4, 5, 6)] == [0.3, 0.3, 0.0, 0.0]


def test_a_hold_that_outlasts_the_schedule_is_refused_with_both_numbers():
    with pytest.raises(UserError, match="num_hold 5 must be less than num_updates 5"):
        parse(ScheduleConfig, {"start": 0.0, "end": 1.0, "num_updates": 5, "num_hold": 5}, "weight")


def test_a_negative_version_is_refused():
    with pytest.raises(ValueError, match="-1"):
        value_at(1.0, -1)


def test_a_schedule_is_always_a_value_only_if_both_ends_are():
    assert is_always(0.0, 0.0)
    assert not is_always(ScheduleConfig(start=0.0, end=1.0, num_updates=3), 0.0)
