"""The leash to the reference model: where the KL enters, with which coefficient, and who moves it."""

from typing import Literal

from pydantic import Field, model_validator

from antiphon.settings import Settings
from learner.functional.checks import at_least
from learner.functional.kl import Estimator


class KLConfig(Settings):
    """KL(π ‖ reference), from one of the places where it can be charged."""

    place: Literal["none", "reward", "loss", "both"] = "none"
    """"reward" subtracts β·k1 from the reward of each token; "loss" adds β·KL to the loss; "both" charges
    twice and has to be asked for by name. "none" needs no reference model and no extra pass."""
    beta: float = Field(0.05, ge=0.0)
    """The coefficient, or where an adaptive one starts."""
    estimator: Estimator = "k3"
    """For the loss: the value that is reported and added. The gradient is that of k2 either way."""
    target: float | None = None
    """KL per token that an adaptive β steers to; None keeps β fixed."""
    horizon: int = 10_000
    """Trajectories over which an adaptive β may change by a fifth; smaller reacts faster."""

    @model_validator(mode="after")
    def _positive(self) -> "KLConfig":
        if self.target is not None and self.target <= 0:
            raise ValueError(f"target must be positive, got {self.target}")
        if self.horizon <= 0:
            raise ValueError(f"horizon must be positive, got {self.horizon}")
        return self

    @property
    def in_reward(self) -> bool:
        return self.place in ("reward", "both")

    @property
    def in_loss(self) -> bool:
        return self.place in ("loss", "both")


class KLController:
    """β, fixed or adaptive (1909.08593): e = clip(KL / target − 1, ±0.2), β ← β (1 + e · n / horizon)."""

    _MAX_ERROR = 0.2

    def __init__(self, config: KLConfig) -> None:
        self._config = config
        self.beta = config.beta

    def update(self, kl: float, num_trajectories: int) -> None:
        """Move β after an update on `num_trajectories` with this mean KL per token.

        One update moves it by a fifth at most, however large the batch.
        """
        at_least(0, num_trajectories=num_trajectories)
        if self._config.target is None:
            return
        error = min(max(kl / self._config.target - 1.0, -self._MAX_ERROR), self._MAX_ERROR)
        self.beta *= 1.0 + error * min(num_trajectories / self._config.horizon, 1.0)

    def state_dict(self) -> dict[str, float]:
        return {"beta": self.beta}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.beta = float(state["beta"])
