"""A batch as arrays, and what is told of it when something looks wrong: alarms with examples to read.

Made by watch.py; the loop writes alarms into events.jsonl.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rollout.types import Group
from rollout.watch_numbers import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A sample that shows what an alarm means."""

    prompt: str
    completion: str
    """Both cut where they are long."""
    value: float
    """What it was trained on."""
    parts: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Something that a person should look at. It stops nothing."""

    name: str
    """Which alarm; one of the settings of WatchConfig that says its threshold."""
    subject: str
    """The component, or pair of components, that it is about; empty where it is about the whole."""
    version: int
    """As in metrics.jsonl: the version that the batch led to."""
    value: float
    threshold: float
    message: str
    """What was seen, as a sentence."""
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredBatch:
    """The groups of one update as columns. All have one entry per sample, n in all."""

    prompts: Sequence[str]
    completions: Sequence[str]
    groups: NDArray[np.int64]
    lengths: Array
    """Action tokens."""
    values: Array
    parts: Mapping[str, Array]
    """The raw scores of each component by its label, nan where a sample has none. What a denoiser notes
    beside them ("quality/sigma") is not among them."""

    @classmethod
    def of(cls, groups: Sequence[Group]) -> "ScoredBatch":
        rows = [
            (number, group, trajectory, score)
            for number, group in enumerate(groups)
            for trajectory, score in zip(group.trajectories, group.scores, strict=True)
        ]
        nan = float("nan")
        labels = dict.fromkeys(label for *_, score in rows for label in score.parts if "/" not in label)
        return cls(
            prompts=[group.prompt.text for _, group, *_ in rows],
            completions=[trajectory.completion_text for *_, trajectory, _ in rows],
            groups=np.array([number for number, *_ in rows], dtype=np.int64),
            lengths=np.array([sum(trajectory.action_mask) for *_, trajectory, _ in rows], dtype=np.float64),
            values=np.array([nan if score.value is None else score.value for *_, score in rows]),
            parts={label: np.array([s.parts.get(label, nan) for *_, s in rows]) for label in labels},
        )

    def examples(self, badness: Array, num_examples: int, num_characters: int) -> tuple[Example, ...]:
        """The samples that show it most, each text once.

        Args:
            badness: [n]; the larger, the better an example.
        """
        order = sorted(range(len(self.completions)), key=lambda i: (-badness[i], i))
        first = {(self.prompts[i], self.completions[i]): i for i in reversed(order)}
        places = [i for i in order if first[self.prompts[i], self.completions[i]] == i]
        return tuple(self._example(i, num_characters) for i in places[:num_examples])

    def _example(self, place: int, num_characters: int) -> Example:
        return Example(
            prompt=_cut(self.prompts[place], num_characters),
            completion=_cut(self.completions[place], num_characters),
            value=float(self.values[place]),
            parts={label: float(v[place]) for label, v in self.parts.items() if np.isfinite(v[place])},
        )


def _cut(text: str, num_characters: int) -> str:
    return text if len(text) <= num_characters else text[:num_characters] + "…"
