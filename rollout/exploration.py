"""How training completions are drawn as a run goes on: temperature, ε and β by schedule or by control.

The dispatcher asks an `Explorer` for the sampling of each task, and writes it into the task: what a task
draws stays a function of the task and the weights alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import model_validator

from antiphon.schedules import Schedule, ScheduleConfig, bounds, value_at
from antiphon.settings import Settings
from rollout.entropy import EntropyConfig, EntropyController, mean_entropy
from rollout.reports import GroupSummary
from rollout.types import Sampling


class ExplorationConfig(Settings):
    """Changes to `rollout.sampling` over the run, for algorithms that may learn from tokens of anybody's.

    All are numbers or schedules over policy versions. First explore, then exploit:
    `epsilon: {kind: two_phase, start: 0.2, end: 0.0, num_updates: 50}`.
    """

    temperature: Schedule | None = None
    """null: rollout.sampling.temperature, which stays the temperature of the policy that is learned."""
    epsilon: Schedule | None = None
    """null: rollout.sampling.epsilon."""
    beta: Schedule | None = None
    """null: rollout.sampling.beta. Evaluation plays the last value."""
    target_entropy: EntropyConfig | None = None
    """Moves the temperature, which starts at the one above, so that the drawn tokens keep an entropy."""

    @model_validator(mode="after")
    def _stays_in_range(self) -> Self:
        limits = {"temperature": (0.0, None), "epsilon": (0.0, 1.0), "beta": (0.0, None)}
        for name, (least, most) in limits.items():
            schedule = getattr(self, name)
            low, high = (0.0, 0.0) if schedule is None else bounds(schedule)
            if low < least or (most is not None and high > most):
                raise ValueError(f"{name} goes from {low} to {high}, which is outside of its range")
        if self.target_entropy is not None and isinstance(self.temperature, ScheduleConfig):
            raise ValueError("target_entropy moves the temperature itself: give it no schedule")
        return self

    @property
    def is_used(self) -> bool:
        return self != ExplorationConfig()


class Explorer:
    """The sampling of each policy version."""

    def __init__(self, sampling: Sampling, config: ExplorationConfig) -> None:
        """
        Raises:
            ValueError: entropy control starts at a temperature outside of its bounds.
        """
        self._base, self._config = sampling, config
        self._controller: EntropyController | None = None
        if config.target_entropy is not None:
            self._controller = EntropyController(config.target_entropy, self._scheduled(0)["temperature"])

    def sampling(self, version: int) -> Sampling:
        """Of the tasks that are given out at this version."""
        if not self._config.is_used:
            return self._base
        values = self._scheduled(version)
        if self._controller is not None:
            values["temperature"] = self._controller.temperature(version)
        return self._base.model_copy(update=values)

    def observe(self, version: int, groups: Sequence[GroupSummary]) -> None:
        """These groups entered the run with the update that leads from `version` to the next."""
        if self._controller is not None and groups:
            self._controller.observe(version, mean_entropy(groups))

    def metrics(self, version: int) -> dict[str, float]:
        """What tasks of this version are drawn with; nothing where nothing ever changes."""
        sampling = self.sampling(version)
        names = ("temperature", "epsilon", "beta") if self._config.is_used else ()
        return {f"rollout/{name}": getattr(sampling, name) for name in names}

    def state_dict(self) -> dict[str, Any]:
        return {} if self._controller is None else self._controller.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self._controller is not None:
            self._controller.load_state_dict(state)

    def _scheduled(self, version: int) -> dict[str, float]:
        names = ("temperature", "epsilon", "beta")
        schedules = {name: getattr(self._config, name) for name in names}
        return {
            name: getattr(self._base, name) if schedule is None else value_at(schedule, version)
            for name, schedule in schedules.items()
        }
