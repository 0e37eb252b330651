"""The heart of the service: fans a request out to the components, and fuses what comes back.

    samples --> Line --> guard --> component(s) --> verdicts --+
            --> Line --> guard --> component(s) --> verdicts --+--> Fusion --> one score per sample

One gateway per service; it holds what must be known in one place: caches, budgets, breakers, running
statistics. It knows neither Ray nor HTTP: what is behind a line, another process or this one, its call knows.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from reward_service.bundle import check_ids
from reward_service.types import Sample, Score, Status

Verdicts = Mapping[str, tuple[Score, ...]]
"""What the components said of one sample, by label: one score per independent judgement."""


class Judge(Protocol):
    """A guarded component (guards.Guard)."""

    async def score(self, samples: Sequence[Sample], deadline: float) -> list[Score]:
        """One score per sample, in the same order, by `deadline` on the monotonic clock."""
        ...

    def stats(self) -> dict[str, float]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


class Fuse(Protocol):
    """What makes one number of many (fusion.Fusion)."""

    def fuse(self, samples: Sequence[Sample], verdicts: Sequence[Verdicts]) -> list[Score]: ...

    def stats(self) -> dict[str, float]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Line:
    """The way to one component, or to a bundle of those that run together."""

    name: str
    judge: Judge
    labels: tuple[str, ...]
    """Of the components behind it."""
    is_bundle: bool = False
    """Its scores hold a part per label; else the value is the score of its only label."""
    num_repeats: int = 1
    """Independent judgements of each completion."""

    async def ask(self, samples: Sequence[Sample], deadline: float) -> list[Verdicts]:
        """What the components behind the line say of each sample."""
        if self.is_bundle:
            return [self._unpack(score) for score in await self.judge.score(samples, deadline)]
        asked = [_repeated(s, number) for s in samples for number in range(self.num_repeats)]
        scores = await self.judge.score(asked, deadline)
        size = self.num_repeats
        return [{self.labels[0]: tuple(scores[i * size : (i + 1) * size])} for i in range(len(samples))]

    def _unpack(self, score: Score) -> Verdicts:
        """A bundle's verdict, by label. Its failure belongs to the first component that has no part.

        Its latency is told once.
        """
        said = {
            label: (Score(id=score.id, status=Status.OK, value=value, latency_s=score.latency_s * (i == 0)),)
            for i, (label, value) in enumerate(score.parts.items())
        }
        if score.value is None:
            failed = next((label for label in self.labels if label not in score.parts), self.labels[0])
            message = score.message.removeprefix(f"{failed}: ")
            said[failed] = (
                replace(score, parts={}, latency_s=0.0 if said else score.latency_s, message=message),
            )
        return said


class Gateway:
    """Scores samples by all components of a recipe."""

    def __init__(self, lines: Sequence[Line], fusion: Fuse) -> None:
        self._lines, self._fusion = tuple(lines), fusion

    async def score(self, samples: Sequence[Sample], deadline: float) -> list[Score]:
        """One score per sample, in the same order; what is not scored by `deadline` has status timeout.

        Args:
            deadline: on the monotonic clock.

        Raises:
            ValueError: two samples have the same id.
        """
        check_ids(samples)
        if not samples:
            return []
        answers = await asyncio.gather(*(line.ask(samples, deadline) for line in self._lines))
        verdicts = [{k: v for answer in answers for k, v in answer[i].items()} for i in range(len(samples))]
        return self._fusion.fuse(samples, verdicts)

    def stats(self) -> dict[str, dict[str, float]]:
        """Counters and gauges, by component; what fusion believes is under "fusion"."""
        return {**{line.name: line.judge.stats() for line in self._lines}, "fusion": self._fusion.stats()}

    def state_dict(self) -> dict[str, Any]:
        """JSON-able: running statistics, and what was spent of the budgets."""
        return {
            "fusion": self._fusion.state_dict(),
            "lines": {line.name: line.judge.state_dict() for line in self._lines},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._fusion.load_state_dict(state["fusion"])
        for line in self._lines:
            line.judge.load_state_dict(state["lines"][line.name])

    def close(self) -> None:
        """Write what a cache on disk has not written yet. Blocks; nothing may be scored afterwards."""
        for line in self._lines:
            line.judge.close()


def _repeated(sample: Sample, number: int) -> Sample:
    """The sample as the component gets it for its judgement with this number."""
    return sample if number == 0 else replace(sample, id=f"{sample.id}#{number}", repeat=number)
