"""What a rollout worker tells about a task: small numbers, no tokens.

The driver lives on these reports; the groups themselves travel beside them (as objects, never through the
driver) from the worker to the replay.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reward_service.types import Status
from rollout.types import Group, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedScore:
    """A sample that is not trained on because its score is not ok, after all retries."""

    number: int
    """Which sample of its group."""
    status: Status
    num_tokens: int
    """Action tokens of its completion."""
    message: str = ""
    """What the failing part said, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSummary:
    """The numbers of one group that metrics and decisions need."""

    epoch: int
    index: int
    policy_version: int
    """The oldest that drew a token of it."""
    rewards: tuple[float, ...]
    """The value of each score."""
    parts: Mapping[str, tuple[float, ...]]
    """The raw scores of each component, by its label. A sample that a component has no number for, although
    its score is ok, is missing there."""
    num_tokens: tuple[int, ...]
    """Action tokens of each trajectory."""
    num_truncated: int
    failed: tuple[FailedScore, ...] = ()
    """The samples that were left out; they are in no other field."""
    entropy: float = 0.0
    """Mean −log p of the drawn tokens under what they were drawn from, in nats: on average, its entropy."""

    @property
    def key(self) -> tuple[int, int]:
        return self.epoch, self.index

    @property
    def is_constant(self) -> bool:
        """All rewards are equal: a group-relative algorithm learns nothing from it."""
        return len(set(self.rewards)) == 1

    @classmethod
    def of(cls, group: Group, failed: tuple[FailedScore, ...] = ()) -> "GroupSummary":
        labels = dict.fromkeys(label for score in group.scores for label in score.parts)
        return cls(
            epoch=group.epoch,
            index=group.index,
            policy_version=group.oldest_version,
            rewards=tuple(s.value for s in group.scores if s.value is not None),
            parts={
                label: tuple(s.parts[label] for s in group.scores if label in s.parts) for label in labels
            },
            num_tokens=tuple(sum(t.action_mask) for t in group.trajectories),
            num_truncated=sum(t.finish_reason == "length" for t in group.trajectories),
            failed=failed,
            entropy=-sum(sum(t.logprobs) for t in group.trajectories) / group.num_action_tokens,
        )


def parse_summary(record: Mapping[str, Any]) -> GroupSummary:
    """A summary from its JSON form, in which tuples have become lists."""
    parts = {label: tuple(scores) for label, scores in record["parts"].items()}
    lists = {name: tuple(record[name]) for name in ("rewards", "num_tokens")}
    failed = tuple(FailedScore(**{**f, "status": Status(f["status"])}) for f in record["failed"])
    return GroupSummary(**{**record, **lists, "parts": parts, "failed": failed})


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A group that will not be trained on, and why."""

    epoch: int
    index: int
    reason: str
    """One word, counted: `score_timeout`, `score_error`, `stale`, `constant`, …"""
    message: str = ""
    """What the failing part said, for people."""
    num_tokens: tuple[int, ...] = ()
    """Action tokens of the samples whose score was ok and which are lost with the others."""
    failed: tuple[FailedScore, ...] = ()
    """The samples whose score was not; with those above, all of the group. None for other reasons."""

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
