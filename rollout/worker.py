"""Runs a task: have it played, look at the tokens as text, have them scored, hand back groups.

    Task --> player --> trajectories --> reward service --> groups, and what was dropped

The same worker runs inside a Ray actor (actor.py) and in the one-process assembly.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from antiphon.privacy import NOTHING_MASKED, Masker
from reward_service.client import RewardClient
from reward_service.types import Sample, Score
from rollout import environment
from rollout.masking import mask_group, mask_score
from rollout.player import Player
from rollout.reports import Dropped, FailedScore, GroupSummary, TaskReport
from rollout.types import Group, Task, Trajectory, Turn
from rollout.weights import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """The groups of a task, and the report that says the same in numbers."""

    groups: tuple[Group, ...]
    report: TaskReport


class Worker:
    """A player and a door to the reward service."""

    def __init__(self, player: Player, rewards: RewardClient, masker: Masker = NOTHING_MASKED) -> None:
        """`masker` takes personal data out of every text that leaves the worker for anything but rewards."""
        self._player = player
        self._rewards = rewards
        self._masker = masker

    @property
    def arithmetic(self) -> str:
        """See Engine.arithmetic."""
        return self._player.engine.arithmetic

    def load(self, weights: Weights) -> str:
        """Swap the engine's weights; returns the digest of what it holds afterwards."""
        return self._player.engine.load(weights)

    def run(self, task: Task) -> TaskResult:
        """Complete and score every prompt of the task. What a failed score costs, the task says."""
        start_s = time.monotonic()
        played = self._player.play(task)
        generated_s = time.monotonic()
        samples = [s for turn, rows in played for s in environment.samples(turn, rows, task.policy_version)]
        scores = {score.id: mask_score(score, self._masker) for score in self._rewards.score(samples)}
        outcomes = [_judge(task, turn, trajectories, scores) for turn, trajectories in played]
        groups = [outcome for outcome in outcomes if not isinstance(outcome, Dropped)]
        report = TaskReport(
            task=task,
            groups=tuple(GroupSummary.of(group, failed) for group, failed in groups),
            dropped=tuple(outcome for outcome in outcomes if isinstance(outcome, Dropped)),
            generate_s=generated_s - start_s,
            score_s=time.monotonic() - generated_s,
        )
        return TaskResult(groups=tuple(mask_group(group, self._masker) for group, _ in groups), report=report)


def _judge(
    task: Task, turn: Turn, trajectories: Sequence[Trajectory], scores: Mapping[str, Score]
) -> tuple[Group, tuple[FailedScore, ...]] | Dropped:
    """The group with the samples that it lost, or why there is no group."""
    samples = environment.samples(turn, trajectories)
    own = [scores[sample.id] for sample in samples]
    failed = _failed(samples, own)
    if not failed or (len(failed) < len(own) and not task.needs_whole_groups):
        is_whole = task.needs_whole_groups
        group = environment.group(
            turn, trajectories, own, policy_version=task.policy_version, is_whole=is_whole
        )
        return group, failed
    return Dropped(
        epoch=turn.epoch,
        index=turn.index,
        reason=f"score_{failed[0].status}",
        message=failed[0].message,
        num_tokens=tuple(s.num_tokens for s, score in zip(samples, own, strict=True) if score.is_ok),
        failed=failed,
    )


def _failed(samples: Sequence[Sample], scores: Sequence[Score]) -> tuple[FailedScore, ...]:
    return tuple(
        FailedScore(number=n, status=score.status, num_tokens=sample.num_tokens, message=score.message)
        for n, (sample, score) in enumerate(zip(samples, scores, strict=True))
        if not score.is_ok
    )
