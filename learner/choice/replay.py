"""Which transitions an update learns from: all alike, or those that surprised last (1511.05952).

    P(i) = p_i^α / Σ_k p_k^α,  p_i = |δ_i| + ε        w_i = (N · P(i))^−β / max_j w_j

Each draw is seeded by (seed, version): a resumed run draws what it would have drawn.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from antiphon.schedules import Schedule, value_at
from antiphon.seeds import derive
from antiphon.settings import Settings
from learner.replays.sum_tree import SumTree


class ReplayConfig(Settings):
    """How transitions are drawn."""

    name: Literal["uniform", "prioritized"] = "uniform"
    """prioritized draws those with a large TD error more often: worth a try where rewards are rare."""
    alpha: float = Field(0.6, ge=0.0, le=1.0)
    """Of prioritized: 0 draws all alike, 1 in proportion to the error."""
    beta: Schedule = 0.4
    """Of prioritized: how far the weights undo what that changes in the mean; 1 undoes it. A constant or a
    schedule over updates, from 0.4 to 1 in the paper."""
    epsilon: float = Field(1e-2, gt=0.0)
    """Of prioritized: added to every error, so that no transition is forgotten."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The transitions of an update."""

    numbers: Tensor
    """[n] int64, with repetitions."""
    weights: Tensor
    """[n] float32 in (0, 1]: how much each counts."""


class ChoiceReplay(ABC):
    """Draws from a fixed number of transitions."""

    @abstractmethod
    def draw(self, num: int, version: int) -> Drawn:
        """`num` transitions for the update with this number."""

    @abstractmethod
    def revise(self, numbers: Tensor, errors: Tensor) -> None:
        """Take note of |δ|, [n], of transitions that were learned from."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What later draws depend on."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`.

        Raises:
            ValueError: it speaks of another number of transitions.
        """


class UniformReplay(ChoiceReplay):
    """All alike, with replacement."""

    def __init__(self, num_transitions: int, seed: int) -> None:
        self._num_transitions, self._seed = num_transitions, seed

    def draw(self, num: int, version: int) -> Drawn:
        numbers = torch.randint(self._num_transitions, (num,), generator=_generator(self._seed, version))
        return Drawn(numbers=numbers, weights=torch.ones(num))

    def revise(self, numbers: Tensor, errors: Tensor) -> None:
        """Errors change nothing here."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """There is no state."""


class PrioritizedReplay(ChoiceReplay):
    """In proportion to p^α: one draw from each of n equal shares of the total. Priorities start at 1."""

    def __init__(self, config: ReplayConfig, num_transitions: int, seed: int) -> None:
        self._config, self._seed = config, seed
        self._priorities = torch.ones(num_transitions, dtype=torch.float64)
        self._fill()

    def draw(self, num: int, version: int) -> Drawn:
        generator = _generator(self._seed, version)
        places = (torch.arange(num) + torch.rand(num, generator=generator, dtype=torch.float64)) / num
        # Rounding may lead just past the total.
        numbers = self._tree.find((places * self._tree.total).clamp(max=self._tree.total).numpy())
        chances = torch.from_numpy(self._tree.get(numbers)) / self._tree.total
        weights = (len(self._priorities) * chances) ** -value_at(self._config.beta, version)
        return Drawn(numbers=torch.from_numpy(numbers), weights=(weights / weights.max()).float())

    def revise(self, numbers: Tensor, errors: Tensor) -> None:
        # Of a transition that was drawn twice both errors are the same.
        self._priorities[numbers] = errors.double().abs() + self._config.epsilon
        self._tree.set(numbers.numpy(), (self._priorities[numbers] ** self._config.alpha).numpy())

    def state_dict(self) -> dict[str, Any]:
        return {"priorities": self._priorities}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state["priorities"].shape != self._priorities.shape:
            raise ValueError(
                f"priorities of {len(state['priorities'])} transitions, not {len(self._priorities)}"
            )
        self._priorities = state["priorities"].clone()
        self._fill()

    def _fill(self) -> None:
        self._tree = SumTree()
        self._tree.set(range(len(self._priorities)), (self._priorities**self._config.alpha).numpy())


def build_replay(config: ReplayConfig, num_transitions: int, seed: int) -> ChoiceReplay:
    """The replay that the recipe names."""
    if config.name == "uniform":
        return UniformReplay(num_transitions, seed)
    return PrioritizedReplay(config, num_transitions, seed)


def _generator(seed: int, version: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive(seed, "replay", version))
