"""The terms of the sum: a component on its own, or an ensemble of them. Used by Fusion.

A term turns what its components said into one normalised number per sample, and says what it did.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from antiphon.schedules import Schedule, ScheduleConfig, value_at
from reward_service.fusion.arrays import Floats, Ints
from reward_service.fusion.config import EnsembleConfig, FusionPart
from reward_service.fusion.ensemble import Ensemble
from reward_service.fusion.normalize import Clip, Normalize, Normalizer

Readings = Mapping[str, Sequence[tuple[float, ...]]]
"""readings[label][sample]: the repeats that succeeded."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What a term has to know of n samples."""

    group: Ints
    """[n] equal for samples that are compared."""
    content: Sequence[Hashable]
    """[n] equal for samples that are the same but for their id."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a term makes of n samples."""

    values: Sequence[float]
    """[n], normalised and clipped; NaN where too little was said."""
    corrections: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """What was done to get there, by the name that `Score.parts` shows. [n] each; NaN is not shown."""


class Term(ABC):
    """One summand of the reward."""

    def __init__(self, name: str, weight: Schedule, normalize: Normalize, clip: Clip | None) -> None:
        self.name = name
        self._weight = weight
        self._normalizer = Normalizer(normalize, clip)

    @property
    @abstractmethod
    def labels(self) -> tuple[str, ...]:
        """Of its components."""

    @abstractmethod
    def judge(self, readings: Readings, batch: Batch) -> Outcome:
        """Learns from the samples, and makes a number of each."""

    def weight_at(self, version: int) -> float:
        return value_at(self._weight, version)

    def shown_weight(self, version: int) -> dict[str, float]:
        """For `Score.parts`: the weight, where it moves."""
        moves = isinstance(self._weight, ScheduleConfig)
        return {f"{self.name}/weight": self.weight_at(version)} if moves else {}

    def stats(self) -> dict[str, float]:
        """What running estimates believe."""
        moments = self._normalizer.moments
        return {f"{self.name}/mean": moments.mean, f"{self.name}/std": moments.std} if moments.count else {}

    def state_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"normalizer": self._normalizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._normalizer.load_state_dict(state["normalizer"])

    def _normalized(self, value: Floats, group: Ints, corrections: dict[str, Floats]) -> Outcome:
        normal = self._normalizer.apply(value, group)
        if not self._normalizer.is_identity:
            corrections[f"{self.name}/normalized"] = normal
        shown = {name: values.tolist() for name, values in corrections.items()}
        return Outcome(values=normal.tolist(), corrections=shown)


class PlainTerm(Term):
    """A component on its own: the mean of its repeats."""

    def __init__(self, part: FusionPart) -> None:
        super().__init__(part.label, part.weight, part.normalize, part.clip)
        self._part = part

    @property
    def labels(self) -> tuple[str, ...]:
        return (self._part.label,)

    def judge(self, readings: Readings, batch: Batch) -> Outcome:
        said = [calibrated(self._part, x) for x in readings[self._part.label]]
        value = np.array([mean(x) if x else np.nan for x in said], dtype=np.float64)
        shown = {} if self._part.calibration is None else {f"{self.name}/calibrated": value}
        return self._normalized(value, batch.group, shown)


class EnsembleTerm(Term):
    """Several noisy judgements of one quantity."""

    def __init__(self, name: str, config: EnsembleConfig, members: Sequence[FusionPart]) -> None:
        super().__init__(name, config.weight, config.normalize, config.clip)
        self._members = tuple(members)
        self._ensemble = Ensemble(config, self.labels, [m.sigma for m in members])
        self.num_needed = config.min_members or len(members)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(m.label for m in self._members)

    def judge(self, readings: Readings, batch: Batch) -> Outcome:
        rows = [self._row(readings, place) for place in range(len(batch.group))]
        first, copy_of = distinct(list(zip(batch.content, rows, strict=True)))
        fused = self._ensemble.fuse([rows[i] for i in first], batch.group[first])
        value = fused.value[copy_of]
        shown = {
            self.name: value,
            f"{self.name}/sigma": fused.sigma[copy_of],
            f"{self.name}/shrinkage": fused.shrinkage[copy_of],
            f"{self.name}/outliers": fused.num_outliers[copy_of].astype(float),
            **{f"{label}/share": fused.share[copy_of, i] for i, label in enumerate(self.labels)},
        }
        return self._normalized(value, batch.group, shown)

    def _row(self, readings: Readings, place: int) -> tuple[tuple[float, ...], ...]:
        """What each member said of a sample; nothing where too few members spoke."""
        row = tuple(calibrated(m, readings[m.label][place]) for m in self._members)
        return row if sum(bool(said) for said in row) >= self.num_needed else ((),) * len(row)

    def stats(self) -> dict[str, float]:
        return super().stats() | self._ensemble.stats()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"ensemble": self._ensemble.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._ensemble.load_state_dict(state["ensemble"])


def distinct(items: Sequence[Hashable]) -> tuple[Ints, Ints]:
    """Where each distinct item comes first, and which of those every item is. -> [distinct], [n]

    A completion that was written twice and judged once (the other time out of a cache) says nothing new about
    the noise; counted twice it would look like agreement.
    """
    number = {item: i for i, item in enumerate(dict.fromkeys(items))}
    copy_of = np.array([number[item] for item in items], dtype=np.intp)
    first = {n: place for place, n in reversed(list(enumerate(copy_of.tolist())))}
    return np.array([first[n] for n in range(len(number))], dtype=np.intp), copy_of


def mean(values: Sequence[float]) -> float:
    """Of at least one value."""
    return values[0] if len(values) == 1 else math.fsum(values) / len(values)


def calibrated(part: FusionPart, values: tuple[float, ...]) -> tuple[float, ...]:
    """Judgements on the scale of the labels, where the part has been calibrated."""
    if part.calibration is None:
        return values
    return tuple(part.calibration.apply(np.array(values, dtype=np.float64)).tolist())
