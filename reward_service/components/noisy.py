"""A judge that errs by a known amount: another component with noise around it, to try out remedies."""

from typing import Any

import numpy as np
from pydantic import Field

from antiphon.errors import UserError
from antiphon.seeds import derive
from antiphon.settings import Settings
from reward_service.building import build_reward
from reward_service.reward import Reward
from reward_service.types import Sample, Usage


class Noisy(Reward):
    """scale · score + bias + ε, with ε ~ N(0, σ²), for some judgements N(0, outlier_sigma²).

    The noise is drawn from the seed and what is judged (prompt, completion, repeat): the same judgement is
    always the same, wherever and in whatever batch it is made.
    """

    name = "noisy"
    range = (float("-inf"), float("inf"))

    class Config(Settings):
        of: str
        """The component that knows the truth: a built-in or an import path, of those that run in place."""
        options: dict[str, Any] = Field(default_factory=dict)
        """Of that component."""
        sigma: float = Field(ge=0.0, allow_inf_nan=False)
        """Standard deviation of the noise of one judgement."""
        bias: float = Field(0.0, allow_inf_nan=False)
        """What every judgement is too high by."""
        scale: float = Field(1.0, allow_inf_nan=False)
        """Below 1 for a judge that uses little of the scale; -1, with bias 1, for one that likes bad work."""
        outlier_share: float = Field(0.0, ge=0.0, le=1.0)
        """How many judgements have nothing to do with the completion."""
        outlier_sigma: float = Field(3.0, ge=0.0, allow_inf_nan=False)
        """The noise of those."""
        seed: int = 0
        """Judges with equal seeds err alike; give each its own."""

    config: Config

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self._truth = build_reward(self.config.of, self.config.options, f"{self.name}.options")
        if self._truth.placement != "cpu":
            raise UserError(
                f"noisy cannot wrap {self.config.of!r}, which runs in processes of its own",
                remedy="wrap a component that only computes, such as exact_match or rougeL",
            )

    def start(self) -> None:
        self._truth.start()

    def estimate(self, sample: Sample) -> Usage:
        return self._truth.estimate(sample)

    def score_one(self, sample: Sample) -> float:
        true = self._truth.score_one(sample)
        return self.config.scale * true + self.config.bias + self._noise(sample)

    def _noise(self, sample: Sample) -> float:
        c = self.config
        seed = derive(c.seed, "noisy", sample.repeat, repr(sample.prompt), repr(sample.completion))
        random = np.random.default_rng(seed)
        sigma = c.outlier_sigma if random.random() < c.outlier_share else c.sigma
        return float(random.normal(0.0, 1.0) * sigma)
