"""Holds the entropy of what actors draw at a target, by moving the sampling temperature.

Pure arithmetic with a small state, used by the explorer (exploration.py): it asks for the temperature of a
policy version, and tells the entropy of each batch.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import Field, model_validator

from antiphon.settings import Settings
from rollout.reports import GroupSummary


class EntropyConfig(Settings):
    """A target for the entropy of the drawn tokens, and how fast the temperature follows."""

    target: float = Field(gt=0.0, allow_inf_nan=False)
    """Nats per token. Look at `rollout/entropy` of a run without control before choosing one."""
    rate: float = Field(0.1, gt=0.0, le=1.0)
    """log T moves by this times the relative error, per update. Lower it if the temperature swings: with lag
    the answer to a change comes some updates later."""
    min_temperature: float = Field(0.1, gt=0.0)
    max_temperature: float = Field(2.0, gt=0.0)

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if self.min_temperature >= self.max_temperature:
            raise ValueError(f"min_temperature {self.min_temperature} is not below {self.max_temperature}")
        return self


class EntropyController:
    """T ← T · exp(rate · clip((target − entropy) / target, −1, 1)), within its bounds, after each update.

    A temperature belongs to a policy version, so that tasks which are given out between an update and its
    publication draw like the others of their version, however long that takes.
    """

    def __init__(self, config: EntropyConfig, temperature: float) -> None:
        """`temperature` is that of version 0.

        Raises:
            ValueError: it is outside of the bounds.
        """
        if not config.min_temperature <= temperature <= config.max_temperature:
            raise ValueError(
                f"temperature {temperature} is outside of {config.min_temperature} … {config.max_temperature}"
            )
        self._config = config
        self._temperatures = {0: temperature}

    def temperature(self, version: int) -> float:
        """Of tasks that are given out at this version."""
        return self._temperatures[max(v for v in self._temperatures if v <= version)]

    def observe(self, version: int, entropy: float) -> None:
        """The batch of the update that leads from `version` to the next had this entropy, nats per token."""
        config, now = self._config, self.temperature(version)
        error = max(-1.0, min(1.0, (config.target - entropy) / config.target))
        moved = now * math.exp(config.rate * error)
        bounded = max(config.min_temperature, min(config.max_temperature, moved))
        self._temperatures = {version: now, version + 1: bounded}

    def state_dict(self) -> dict[str, Any]:
        return {"temperatures": [[version, t] for version, t in self._temperatures.items()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._temperatures = dict(state["temperatures"])


def mean_entropy(groups: Sequence[GroupSummary]) -> float:
    """Mean −log p over all drawn tokens of these groups, in nats per token; at least one group."""
    counts = [sum(group.num_tokens) for group in groups]
    return sum(g.entropy * n for g, n in zip(groups, counts, strict=True)) / sum(counts)
