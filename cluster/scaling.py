"""How many rollout actors there should be, by what the learner and the actors wait for. Pure: told of time.

    wait   = share of a span in which the learner had nothing to learn from
    busy   = actors that had work, on average over the span

The learner waits and the actors are busy: more of them. It hardly waits, and fewer would do what these do:
fewer. In between nothing changes, and the gap is wide enough that a change in one direction is not a reason
for one in the other. crew.py asks; it also knows the bounds.
"""

from dataclasses import dataclass
from typing import Self

from pydantic import Field, model_validator

from antiphon.settings import Settings

WAIT, LEARN = "wait", "learn"
"""The phases of the driver that count; others, such as a measurement or a checkpoint, say nothing."""
MAX_LOAD = 0.75
"""Share of the actors that may be busy for good. Above it, while the learner waits, more would help; fewer
actors must stay below it."""
STEP = 4
"""The number changes by a quarter of itself, at least by 1."""


class ScalingConfig(Settings):
    """When actors are added and taken away, between rollout.min_actors and rollout.max_actors."""

    span_s: float = Field(15.0, gt=0.0)
    """Waiting and idleness are measured over spans of at least so long, and over whole updates."""
    num_spans: int = Field(2, ge=1)
    """So many spans in a row must say the same before the number changes; more for noisy loads."""
    grow_above: float = Field(0.25, gt=0.0, le=1.0)
    """Share of its time that the learner waits for groups, above which actors are added."""
    shrink_below: float = Field(0.05, ge=0.0, lt=1.0)
    """Share below which actors are taken away, if the others can do their work."""

    @model_validator(mode="after")
    def _is_apart(self) -> Self:
        # One actor of two leaves: what the learner waits may double.
        if self.grow_above < 2.0 * self.shrink_below:
            raise ValueError(
                f"grow_above {self.grow_above:g} is less than twice shrink_below {self.shrink_below:g}: "
                "actors would come and go"
            )
        return self


@dataclass(slots=True)
class Span:
    """What was seen since the last decision, in seconds and in actors times seconds."""

    total_s: float = 0.0
    wait_s: float = 0.0
    busy_actor_s: float = 0.0
    busy_actor_wait_s: float = 0.0

    def add(self, length_s: float, is_waiting: bool, num_busy: int) -> None:
        self.total_s += length_s
        self.busy_actor_s += num_busy * length_s
        if is_waiting:
            self.wait_s += length_s
            self.busy_actor_wait_s += num_busy * length_s

    @property
    def wait_share(self) -> float:
        return self.wait_s / self.total_s if self.total_s else 0.0

    @property
    def mean_busy(self) -> float:
        return self.busy_actor_s / self.total_s if self.total_s else 0.0

    @property
    def mean_busy_in_wait(self) -> float:
        return self.busy_actor_wait_s / self.wait_s if self.wait_s else 0.0


def verdict(span: Span, num_actors: int, config: ScalingConfig) -> int:
    """By how many actors to grow (positive) or to shrink (negative), after this span with `num_actors`."""
    step = max(1, num_actors // STEP)
    if span.wait_share > config.grow_above and span.mean_busy_in_wait >= MAX_LOAD * num_actors:
        return step
    if span.wait_share < config.shrink_below and span.mean_busy <= MAX_LOAD * (num_actors - step):
        return -step
    return 0


class Scaler:
    """Looks on, and says from time to time by how much the number should change."""

    def __init__(self, config: ScalingConfig) -> None:
        self._config = config
        self.forget()

    def forget(self) -> None:
        """Begin anew: the number has changed, or what was seen says nothing."""
        self._span: Span | None = None
        """None until an update begins, so that it holds whole ones."""
        self._verdicts: list[int] = []
        self._last: tuple[float, str, int] | None = None

    def look(self, now_s: float, phase: str, num_actors: int, num_busy: int) -> int:
        """What there is to see now counts until the next look. Mostly 0; else by how much to change.

        Args:
            phase: of the driver.
            num_actors: those that hold weights.
            num_busy: those of them that have work.
        """
        last, self._last = self._last, (now_s, phase, num_busy)
        if last is None:
            return 0
        since_s, phase_before, busy_before = last
        if self._span is not None and phase_before in (WAIT, LEARN):
            self._span.add(now_s - since_s, phase_before == WAIT, busy_before)
        if phase != LEARN or phase_before == LEARN:
            return 0
        span = self._span = self._span or Span()
        return self._decide(span, num_actors) if span.total_s >= self._config.span_s else 0

    def _decide(self, span: Span, num_actors: int) -> int:
        self._span = Span()
        change = verdict(span, num_actors, self._config)
        self._verdicts = [v for v in self._verdicts if v * change > 0] + [change] * (change != 0)
        return change if len(self._verdicts) >= self._config.num_spans else 0
