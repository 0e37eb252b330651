"""One score out of several judgements of one quantity: aligned, cleaned, fused, shrunk.

Used by Fusion, one per name that components `estimate`. Holds the window that the noise is estimated from. It
does not know what the numbers mean, nor what they count for in the reward.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reward_service.fusion.arrays import LARGEST, Bools, Floats, Ints
from reward_service.fusion.config import EnsembleConfig
from reward_service.fusion.judgements import (
    Judgements,
    Readings,
    as_array,
    gaps,
    repeat_scale,
    summarised,
    unstacked,
    without_wild_repeats,
)
from reward_service.fusion.model import ignorance, noise_model
from reward_service.fusion.noise import inverse_variance
from reward_service.fusion.robust import is_outlier
from reward_service.fusion.shrink import between_excess, between_variance, pooled_between, shrunk
from reward_service.fusion.window import Window


@dataclass(frozen=True, kw_only=True)
class Fused:
    """One number per sample, and what was done to get it. All [n] but `share`."""

    value: Floats
    """NaN where no judge said anything."""
    sigma: Floats
    """Standard deviation of the noise that is left before shrinking; NaN where it is not known."""
    shrinkage: Floats
    """1: believed as it stands; 0: the mean of the prompt."""
    num_outliers: Ints
    """Repeats and judges that were left out."""
    share: Floats
    """[n, m] what each judge counted for."""


class Ensemble:
    """Fuses batch after batch, and learns from each how noisy its judges are. Not for several threads at
    once."""

    def __init__(self, config: EnsembleConfig, labels: Sequence[str], sigma: Sequence[float | None]) -> None:
        """`sigma` of a judge is the noise of one judgement, where it is known."""
        self.labels = tuple(labels)
        self._config = config
        self._threshold = np.inf if config.outlier_threshold is None else config.outlier_threshold
        self._sigma: Floats = np.array([np.nan if s is None else s for s in sigma], dtype=np.float64)
        self._seen = Window(config.window, (4, len(labels)))
        self._prompts = Window(config.window, (2,))
        self._model = ignorance(self._sigma)

    def fuse(self, readings: Readings, group: Ints) -> Fused:
        """One number per sample; the batch is learned from first. `readings[sample][judge]` are its
        repeats."""
        values = as_array(readings, len(self.labels))
        kept, num_wild = self._without_wild(values)
        batch = summarised(kept, gaps(values))
        self._seen.add(batch.stacked()[_is_worth_learning(batch)])
        self._estimate()
        aligned = self._model.aligned(batch.mean)
        is_out = is_outlier(aligned, self._model.usual_deviation, self._threshold)
        counted = self._without_contrary(np.where(is_out, np.nan, aligned))
        fused, variance, share = self._average(counted, batch.num)
        value, shrinkage = self._shrink(fused, variance, group)
        return Fused(
            value=value,
            sigma=np.sqrt(variance),
            shrinkage=shrinkage,
            num_outliers=(num_wild + is_out).sum(axis=1),
            share=share,
        )

    def stats(self) -> dict[str, float]:
        """What is believed of each judge: `<label>/sigma` of one judgement, `/factor`, `/shift`,
        `/is_known`."""
        model = self._model
        believed = {
            "sigma": np.sqrt(model.repeat_variance + model.own_variance),
            "factor": model.factor,
            "shift": model.shift,
            "is_known": model.is_known,
            "is_contrary": model.is_contrary,
        }
        return {
            f"{label}/{what}": float(values[i])
            for i, label in enumerate(self.labels)
            for what, values in believed.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"seen": self._seen.state_dict(), "prompts": self._prompts.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError where the state is of another number of judges."""
        self._seen.load_state_dict(state["seen"])
        self._prompts.load_state_dict(state["prompts"])
        self._estimate()

    def _estimate(self) -> None:
        """The noise model of what is in the window, once there is enough."""
        c, rows = self._config, self._seen.rows
        if len(rows) >= c.min_samples:
            past = unstacked(rows)
            self._model = noise_model(past, self._sigma, c.align, self._threshold, c.min_samples)

    def _without_wild(self, values: Floats) -> tuple[Floats, Ints]:
        """Without the repeats that have nothing to do with the judge's others. [n, m, k] -> [n, m, k], [n,
        m]"""
        gap = np.concatenate([unstacked(self._seen.rows).gap, gaps(values)])[-self._config.window :]
        scale = repeat_scale(gap, self._config.min_samples)
        return without_wild_repeats(values, scale, self._threshold)

    def _without_contrary(self, values: Floats) -> Floats:
        """Judges who say the opposite of the others are not counted, where others have spoken. [n, m]"""
        if not self._config.leaves_out_contrary:
            return values
        upright = np.where(self._model.is_contrary, np.nan, values)
        return np.where(np.isnan(upright).all(axis=1, keepdims=True), values, upright)

    def _average(self, values: Floats, num: Floats) -> tuple[Floats, Floats, Floats]:
        """Fused values, their variances (NaN unless all judges are known), and shares."""
        variance = self._model.variance(num)
        is_known = bool(self._model.is_known.all())
        if self._config.is_weighted and is_known:
            return inverse_variance(values, variance)
        fused, _, share = inverse_variance(values, np.ones_like(variance))
        noise = (share**2 * np.where(share > 0.0, variance, 0.0)).sum(axis=1)
        return fused, noise if is_known else np.full(len(fused), np.nan), share

    def _shrink(self, fused: Floats, variance: Floats, group: Ints) -> tuple[Floats, Floats]:
        """Values drawn to the mean of their prompt, and by what factor."""
        if not self._config.is_shrunk or np.isnan(variance).all():
            return fused, np.ones(len(fused))
        excess, freedom = between_excess(fused, variance, group)
        self._prompts.add(np.stack([excess, freedom], axis=1)[(freedom > 0.0) & (np.abs(excess) < LARGEST)])
        pooled = pooled_between(self._prompts.rows)
        between = between_variance(excess, freedom, pooled, self._config.prior_strength)
        return shrunk(fused, variance, group, between)


def _is_worth_learning(batch: Judgements) -> Bools:
    """Samples of which somebody said something, and nobody something that cannot be squared. [n]"""
    return np.asarray((batch.num > 0).any(axis=1) & ~(np.abs(batch.mean) > LARGEST).any(axis=1))
