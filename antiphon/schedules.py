"""Numbers that change while a run goes on: in a recipe either a number, or a section.

weight: 0.5
weight: {kind: linear, start: 0.0, end: 0.5, num_updates: 100}
"""

import math
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from antiphon.settings import Settings


class ScheduleConfig(Settings):
    """A value that goes from `start` to `end` over `num_updates` updates, and stays there."""

    kind: Literal["linear", "cosine", "two_phase"] = "linear"
    """linear and cosine move all the way; two_phase holds `start` and then jumps to `end`, as in first
    explore, then exploit."""
    start: float = Field(allow_inf_nan=False)
    end: float = Field(allow_inf_nan=False)
    num_updates: int = Field(ge=1)
    """The update at which `end` is reached."""
    num_hold: int = Field(0, ge=0)
    """Updates at `start` before the value begins to move."""

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if self.num_hold >= self.num_updates:
            raise ValueError(f"num_hold {self.num_hold} must be less than num_updates {self.num_updates}")
        return self


def _form(value: object) -> str:
    return "<section>" if isinstance(value, dict | ScheduleConfig) else "<number>"


Schedule = Annotated[
    Annotated[float, Tag("<number>")] | Annotated[ScheduleConfig, Tag("<section>")], Discriminator(_form)
]
"""A constant, or a section."""


def value_at(schedule: Schedule, update: int) -> float:
    """The value that holds for the given policy version.

    Raises:
        ValueError: a negative version.
    """
    if update < 0:
        raise ValueError(f"a policy version is 0 or more, got {update}")
    if not isinstance(schedule, ScheduleConfig):
        return float(schedule)
    share = (update - schedule.num_hold) / (schedule.num_updates - schedule.num_hold)
    share = min(1.0, max(0.0, share))
    moved = {
        "linear": share,
        "cosine": (1.0 - math.cos(math.pi * share)) / 2.0,
        "two_phase": float(update >= schedule.num_updates),
    }[schedule.kind]
    return schedule.start + moved * (schedule.end - schedule.start)


def is_always(schedule: Schedule, value: float) -> bool:
    """Whether a schedule is that value all the time."""
    return bounds(schedule) == (value, value)


def bounds(schedule: Schedule) -> tuple[float, float]:
    """The least and the largest value that a schedule ever has."""
    ends = (schedule.start, schedule.end) if isinstance(schedule, ScheduleConfig) else (schedule,)
    return min(ends), max(ends)


def last_value(schedule: Schedule) -> float:
    """Where a schedule ends."""
    return schedule.end if isinstance(schedule, ScheduleConfig) else float(schedule)
