"""Where groups wait for the learner. Bounds how old they may be, and says which it drops for it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

from reward_service.types import Score, Status, Usage
from rollout.types import Group, Prompt, Trajectory


class Replay(ABC):
    """Groups in, batches out."""

    name: ClassVar[str]

    @abstractmethod
    def add(self, group: Group) -> None:
        """Keep the group. How many there may be is decided at dispatch (cluster/admission.py).

        Raises:
            ValueError: it is already here.
        """

    @abstractmethod
    def ready(self, num_groups: int) -> bool:
        """Whether `take(num_groups)` would succeed."""

    @abstractmethod
    def take(self, num_groups: int) -> list[Group]:
        """The groups of one update."""

    @abstractmethod
    def sweep(self, version: int, max_lag: int) -> list[Group]:
        """Drop and return the groups whose lag at this learner version is above `max_lag`."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All groups, JSON-able."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""


class FreshQueue(Replay):
    """First in, first out by place in the order of dispatch; each group is taken once."""

    name = "queue"

    def __init__(self) -> None:
        self._groups: dict[tuple[int, int], Group] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def add(self, group: Group) -> None:
        if group.key in self._groups:
            raise ValueError(f"the replay already holds group {group.key}")
        self._groups[group.key] = group

    def ready(self, num_groups: int) -> bool:
        return len(self) >= num_groups

    def take(self, num_groups: int) -> list[Group]:
        """The groups that stand first in the order of dispatch, which is not that of arrival.

        Raises:
            ValueError: there are fewer.
        """
        if not self.ready(num_groups):
            raise ValueError(f"replay holds {len(self)} groups, {num_groups} were asked for")
        return [self._groups.pop(key) for key in sorted(self._groups)[:num_groups]]

    def sweep(self, version: int, max_lag: int) -> list[Group]:
        old = [key for key, g in sorted(self._groups.items()) if version - g.policy_version > max_lag]
        return [self._groups.pop(key) for key in old]

    def state_dict(self) -> dict[str, Any]:
        return {"groups": [group_to_json(group) for _, group in sorted(self._groups.items())]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        groups = [group_from_json(g) for g in state["groups"]]
        self._groups = {group.key: group for group in groups}


def group_to_json(group: Group) -> dict[str, Any]:
    """A group as JSON-able values; floats survive exactly."""
    return asdict(group)


def group_from_json(value: Mapping[str, Any]) -> Group:
    """The inverse of `group_to_json`, also after a way through JSON text."""
    return Group(
        **{
            **value,
            "prompt": Prompt(**{**value["prompt"], "token_ids": tuple(value["prompt"]["token_ids"])}),
            "trajectories": tuple(_trajectory(t) for t in value["trajectories"]),
            "scores": tuple(_score(s) for s in value["scores"]),
        }
    )


def _trajectory(value: Mapping[str, Any]) -> Trajectory:
    tuples: dict[str, Sequence[Any]] = {
        key: tuple(value[key]) for key in ("token_ids", "action_mask", "logprobs")
    }
    return Trajectory(**{**value, **tuples})


def _score(value: Mapping[str, Any]) -> Score:
    return Score(**{**value, "status": Status(value["status"]), "usage": Usage(**value["usage"])})
