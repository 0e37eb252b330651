"""What a rollout worker tells about a task: small numbers, no tokens.

The driver lives on these reports; the groups themselves travel beside them (as objects, never through the
driver) from the worker to the replay.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rollout.types import Group, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSummary:
    """The numbers of one group that metrics and decisions need."""

    epoch: int
    index: int
    policy_version: int
    rewards: tuple[float, ...]
    """The value of each score."""
    parts: Mapping[str, tuple[float, ...]]
    """The raw scores of each component, by its label."""
    num_tokens: tuple[int, ...]
    """Action tokens of each trajectory."""
    num_truncated: int

    @property
    def key(self) -> tuple[int, int]:
        return self.epoch, self.index

    @property
    def is_constant(self) -> bool:
        """All rewards are equal: a group-relative algorithm learns nothing from it."""
        return len(set(self.rewards)) == 1

    @classmethod
    def of(cls, group: Group) -> "GroupSummary":
        labels = group.scores[0].parts.keys()
        return cls(
            epoch=group.epoch,
            index=group.index,
            policy_version=group.policy_version,
            rewards=tuple(s.value for s in group.scores if s.value is not None),
            parts={label: tuple(s.parts[label] for s in group.scores) for label in labels},
            num_tokens=tuple(sum(t.action_mask) for t in group.trajectories),
            num_truncated=sum(t.finish_reason == "length" for t in group.trajectories),
        )


def parse_summary(record: Mapping[str, Any]) -> GroupSummary:
    """A summary from its JSON form, in which tuples have become lists."""
    parts = {label: tuple(scores) for label, scores in record["parts"].items()}
    lists = {name: tuple(record[name]) for name in ("rewards", "num_tokens")}
    return GroupSummary(**{**record, **lists, "parts": parts})


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A group that will not be trained on, and why."""

    epoch: int
    index: int
    reason: str
    """One word, counted: `score_timeout`, `score_error`, `stale`, `constant`, …"""
    message: str = ""
    """What the failing part said, for people."""

    @property
    def key(self) -> tuple[int, int]:
        return self.epoch, self.index


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReport:
    """How a task ended. Every turn of the task is in `groups` or in `dropped`, once."""

    task: Task
    groups: tuple[GroupSummary, ...]
    dropped: tuple[Dropped, ...]
    generate_s: float
    score_s: float
