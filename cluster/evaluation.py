"""Measures the current policy on the held-out prompts, through the same workers and rewards as training."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from antiphon.errors import UserError
from antiphon.seeds import derive
from antiphon.settings import Settings
from cluster.failures import is_lasting, losses
from cluster.ports import RolloutSide
from rollout.reports import TaskReport
from rollout.types import Prompt, Sampling, Task, Turn

EVALUATION_EPOCH = -1
"""No training prompt has it: the samples of an evaluation never draw with the seeds of training."""


class EvaluationConfig(Settings):
    """When and how the held-out prompts are measured. They are always measured before and after the run."""

    every: int = Field(0, ge=0)
    """Also measure after every so many updates; 0: only before and after."""
    metric: str | None = None
    """The label of the reward component that is reported; null: the whole reward."""
    num_prompts: int = Field(256, ge=1)
    """Use the first so many held-out prompts."""
    num_samples: int = Field(1, ge=1)
    """Completions of each prompt."""
    prompts_per_task: int = Field(64, ge=1)
    """Prompts that a worker takes at once."""
    temperature: float | None = Field(None, ge=0.0)
    """Sampling temperature of the measurement; null: rollout.sampling.temperature; 0: greedy."""
    top_k: int | None = Field(None, ge=0)
    """Keep this many tokens; null: as in rollout.sampling; 0: all."""
    top_p: float | None = Field(None, gt=0.0, le=1.0)
    """Keep the smallest set with this mass; null: as in rollout.sampling; 1: all."""
    beta: float | None = Field(None, ge=0.0, allow_inf_nan=False)
    """Weight of Q − V in what is measured, where actors play a Q function; null: that of training, of a
    schedule the last value; 0: the model alone. No measurement explores."""

    def sampling(self, settled: Sampling) -> Sampling:
        """How held-out completions are drawn, from how training does when it no longer explores."""
        own = {name: getattr(self, name) for name in ("temperature", "top_k", "top_p", "beta")}
        given = {name: value for name, value in own.items() if value is not None}
        return settled.model_copy(update={**given, "epsilon": 0.0})


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The mean of the metric on one policy version."""

    metric: str
    value: float
    n: int
    """Completions that were scored; those whose scoring failed are left out, never counted as 0."""
    num_failed: int


class Round:
    """One pass over the held-out prompts: what is to be given out, and what came back."""

    def __init__(self, tasks: Sequence[Task] = ()) -> None:
        self._waiting = list(reversed(tasks))
        self._reports: dict[int, TaskReport | None] = dict.fromkeys(task.id for task in tasks)

    @property
    def is_done(self) -> bool:
        return None not in self._reports.values()

    @property
    def reports(self) -> list[TaskReport]:
        return [report for report in self._reports.values() if report is not None]

    def give_out(self, rollouts: RolloutSide) -> None:
        """Keep the workers busy."""
        while self._waiting and rollouts.num_free > 0:
            rollouts.submit(self._waiting.pop())

    def take(self, report: TaskReport) -> bool:
        """Keep the report; False if its task is none of these."""
        is_own = report.task.id in self._reports
        if is_own:
            self._reports[report.task.id] = report
        return is_own

    def lose(self, task: Task) -> bool:
        """The actor of the task died; False if it is none of these."""
        if task.id not in self._reports:
            return False
        # Not given out here: while the actor is replaced, there may be nobody who is free.
        self._waiting.append(task)
        return True


class Evaluator:
    """Makes the tasks of one measurement, and reads their reports."""

    def __init__(
        self,
        config: EvaluationConfig,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        seed: int,
        task_ids: "itertools.count[int]",
    ) -> None:
        self.config = config
        self.prompts = prompts[: config.num_prompts]
        self.sampling = config.sampling(sampling)
        self._seed = derive(seed, "evaluation")
        self._task_ids = task_ids

    def make_tasks(self, version: int) -> list[Task]:
        """All held-out prompts, with the same seeds at every version: measurements are paired."""
        turns = [Turn(epoch=EVALUATION_EPOCH, index=i, prompt=p) for i, p in enumerate(self.prompts)]
        size = self.config.prompts_per_task
        return [
            Task(
                id=next(self._task_ids),
                turns=tuple(turns[start : start + size]),
                num_samples=self.config.num_samples,
                sampling=self.sampling,
                policy_version=version,
                seed=self._seed,
                needs_whole_groups=False,
            )
            for start in range(0, len(turns), size)
        ]

    def is_worth_repeating(self, reports: Sequence[TaskReport]) -> bool:
        """Nothing was scored, for a reason that may pass."""
        seen = [loss for report in reports for loss in losses(report)]
        return bool(seen) and not is_lasting(seen) and not any(report.groups for report in reports)

    def measure(self, reports: Sequence[TaskReport]) -> Measurement:
        """The mean of the metric over all completions that were scored.

        Raises:
            UserError: none was scored, or no component carries the label.
        """
        label = self.config.metric
        groups = [group for report in reports for group in report.groups]
        dropped = [drop for report in reports for drop in report.dropped]
        if not groups:
            message = dropped[0].message if dropped else "there are no held-out prompts"
            raise UserError(
                f"the evaluation has no score: {message}", remedy="mend the reward component or the data"
            )
        parts = dict.fromkeys(part for group in groups for part in group.parts)
        if label is not None and label not in parts:
            labels = ", ".join(parts)
            raise UserError(
                f"evaluation.metric is {label!r}: no such component", remedy=f"use one of {labels}"
            )
        values = [v for g in groups for v in (g.rewards if label is None else g.parts.get(label, ()))]
        return Measurement(
            metric=label or "reward",
            value=sum(values) / len(values),
            n=len(values),
            num_failed=sum(len(g.failed) for g in groups) + sum(len(d.failed) for d in dropped),
        )
