"""Runs a task: generate, look at the tokens as text, have them scored, hand back whole groups.

    Task --> engine --> trajectories --> reward service --> groups, and what was dropped

The same worker runs inside a Ray actor (actor.py) and in the one-process assembly.
"""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

from reward_service.client import RewardClient
from reward_service.types import Score
from rollout import environment
from rollout.engines.base import Engine
from rollout.environment import Decode
from rollout.reports import Dropped, GroupSummary, TaskReport
from rollout.types import Completion, Group, Task, Trajectory, Turn
from rollout.weights import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """The groups of a task, and the report that says the same in numbers."""

    groups: tuple[Group, ...]
    report: TaskReport


class Worker:
    """An engine and a door to the reward service."""

    def __init__(self, engine: Engine, rewards: RewardClient, decode: Decode) -> None:
        self._engine = engine
        self._rewards = rewards
        self._decode = decode

    def load(self, weights: Weights) -> str:
        """Swap the engine's weights; returns the digest of what it holds afterwards."""
        return self._engine.load(weights)

    def run(self, task: Task) -> TaskResult:
        """Complete and score every prompt of the task. A group with a failed score is dropped whole."""
        start_s = time.monotonic()
        completions = self._engine.generate(environment.requests(task))
        generated_s = time.monotonic()
        played = self._trajectories(task, completions)
        samples = [s for turn, rows in played for s in environment.samples(turn, rows, task.policy_version)]
        scores = {score.id: score for score in self._rewards.score(samples)}
        groups, dropped = self._judge(task, played, scores)
        report = TaskReport(
            task=task,
            groups=tuple(GroupSummary.of(group) for group in groups),
            dropped=tuple(dropped),
            generate_s=generated_s - start_s,
            score_s=time.monotonic() - generated_s,
        )
        return TaskResult(groups=tuple(groups), report=report)

    def _trajectories(
        self, task: Task, completions: Sequence[Completion]
    ) -> list[tuple[Turn, list[Trajectory]]]:
        drawn = iter(completions)
        return [
            (
                turn,
                [
                    environment.trajectory(turn.prompt, completion, self._decode)
                    for completion in itertools.islice(drawn, task.num_samples)
                ],
            )
            for turn in task.turns
        ]

    def _judge(
        self, task: Task, played: Sequence[tuple[Turn, list[Trajectory]]], scores: dict[str, Score]
    ) -> tuple[list[Group], list[Dropped]]:
        """Groups whose scores are all ok, and the others with the first reason."""
        groups, dropped = [], []
        for turn, trajectories in played:
            own = [scores[sample.id] for sample in environment.samples(turn, trajectories)]
            failed = next((score for score in own if not score.is_ok), None)
            if failed is None:
                groups.append(environment.group(turn, trajectories, own, policy_version=task.policy_version))
            else:
                dropped.append(
                    Dropped(
                        epoch=turn.epoch,
                        index=turn.index,
                        reason=f"score_{failed.status}",
                        message=failed.message,
                    )
                )
        return groups, dropped
