"""Components on a common footing: running or per-prompt standardisation, and a clip.

Used by Fusion, once for every term of the sum. Knows neither labels nor weights.
"""

from typing import Any, Literal

import numpy as np

from reward_service.fusion.arrays import LARGEST, Floats, Ints, sum_by_group, want_rank

Normalize = Literal["none", "running", "per_prompt"]
"""none         as the component says it
running      minus the mean, by the standard deviation of everything scored so far
per_prompt   minus the mean, by the standard deviation of the samples of one prompt in the request"""
Clip = tuple[float, float]
"""Lowest and highest value, after normalisation."""
EPSILON = 1e-6
"""Added to a standard deviation: what hardly varies stays near 0, instead of turning into rounding noise."""


class RunningMoments:
    """Mean and variance of a stream, batch by batch, without keeping it.

    Two batches A and B with δ = mean_B − mean_A merge as (Chan, Golub, LeVeque 1979; one value at a time it
    is Welford 1962)

        n = n_A + n_B        mean = mean_A + δ n_B / n        M2 = M2_A + M2_B + δ² n_A n_B / n
    """

    def __init__(self) -> None:
        self.count, self.mean, self._m2 = 0, 0.0, 0.0

    @property
    def std(self) -> float:
        """√(M2 / n), of the stream as the whole population; 0 before the first value."""
        return float(np.sqrt(self._m2 / self.count)) if self.count else 0.0

    def add(self, values: Floats) -> None:
        """Counts values in; NaN and what is too large to be squared are left out. [n]"""
        values = values[np.abs(values) < LARGEST]
        if not len(values):
            return
        batch_mean, total = float(values.mean()), self.count + len(values)
        delta = batch_mean - self.mean
        self._m2 += float(((values - batch_mean) ** 2).sum()) + delta**2 * self.count * len(values) / total
        self.mean += delta * len(values) / total
        self.count = total

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "mean": self.mean, "m2": self._m2}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count, self.mean, self._m2 = int(state["count"]), float(state["mean"]), float(state["m2"])


def per_prompt(values: Floats, group: Ints) -> Floats:
    """(x − mean) / (std + ε) within the group, std with Bessel's correction, over what is not NaN. [n] -> [n]

    Exactly 0 in a group of one, and where all values are equal. The same rule as GRPO's (2402.03300).
    """
    want_rank(1, values=values, group=group)
    is_said = ~np.isnan(values)
    num = sum_by_group(is_said.astype(float), group)
    mean = sum_by_group(values, group) / np.maximum(num, 1.0)
    centred = values - mean[group]
    std = np.sqrt(sum_by_group(centred**2, group) / np.maximum(num - 1.0, 1.0))
    low, high = np.full(len(num), np.inf), np.full(len(num), -np.inf)
    np.minimum.at(low, group[is_said], values[is_said])
    np.maximum.at(high, group[is_said], values[is_said])
    normal = np.where((low >= high)[group], 0.0, centred / (std[group] + EPSILON))
    return np.where(is_said, normal, np.nan)


class Normalizer:
    """Normalises one term of the sum, then clips it. Holds the running moments."""

    def __init__(self, kind: Normalize, clip: Clip | None) -> None:
        self.moments = RunningMoments()
        self._kind, self._clip = kind, clip

    @property
    def is_identity(self) -> bool:
        return self._kind == "none" and self._clip is None

    def apply(self, values: Floats, group: Ints) -> Floats:
        """clip(normalize(x)); NaN stays NaN. A request is counted in before it is normalised. [n], [n] ->
        [n]"""
        if self._kind == "running":
            self.moments.add(values)
            values = (values - self.moments.mean) / (self.moments.std + EPSILON)
        elif self._kind == "per_prompt":
            values = per_prompt(values, group)
        return values if self._clip is None else np.clip(values, *self._clip)

    def state_dict(self) -> dict[str, Any]:
        return self.moments.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.moments.load_state_dict(state)
