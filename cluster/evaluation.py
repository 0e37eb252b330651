"""Measures the current policy on the held-out prompts, through the same workers and rewards as training."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from antiphon.errors import UserError
from antiphon.seeds import derive
from antiphon.settings import Settings
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
    """Sampling temperature of the measurement; null: that of training; 0: greedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The mean of the metric on one policy version."""

    metric: str
    value: float
    n: int
    """Completions that were scored; those whose scoring failed are left out, never counted as 0."""
    num_failed: int


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
        temperature = sampling.temperature if config.temperature is None else config.temperature
        self.sampling = sampling.model_copy(update={"temperature": temperature})
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
            )
            for start in range(0, len(turns), size)
        ]

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
        if label is not None and label not in groups[0].parts:
            labels = ", ".join(groups[0].parts)
            raise UserError(
                f"evaluation.metric is {label!r}: no such component", remedy=f"use one of {labels}"
            )
        values = [v for g in groups for v in (g.rewards if label is None else g.parts[label])]
        return Measurement(
            metric=label or "reward",
            value=sum(values) / len(values),
            n=len(values),
            num_failed=len(dropped) * self.config.num_samples,
        )
