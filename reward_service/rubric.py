"""The reward as a whole: the weighted sum of its components.

Built from the recipe twice: by the command line, to find mistakes before any process starts, and in
every replica of the service.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reward_service.building import build_reward
from reward_service.config import RewardConfig
from reward_service.reward import Reward, in_one_line
from reward_service.types import Sample, Score, Status


@dataclass(frozen=True, kw_only=True)
class Part:
    """A component and what its score counts for."""

    label: str
    weight: float
    reward: Reward


class Rubric:
    """Scores samples by all parts; failures stay failures."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """One score per sample, in the same order: the sum of weight times part.

        A sample is ok only if every part is; else it has the status of the first part that is not.

        Raises:
            ValueError: two samples have the same id.
        """
        check_ids(samples)
        verdicts = [(part, _judge(part, samples)) for part in self.parts]
        return [_sum(s.id, [(part, judged[s.id]) for part, judged in verdicts]) for s in samples]


def _judge(part: Part, samples: Sequence[Sample]) -> dict[str, Score]:
    """A verdict for every sample, by id, whatever the component does."""
    message = "it gave no score for the sample"
    judged: dict[str, Score] = {}
    try:
        judged = by_id(part.reward.score(samples))
    except Exception as error:  # Reward code is untrusted, and so is an overridden `score`.
        message = in_one_line(error)
    return {s.id: judged.get(s.id) or Score(id=s.id, status=Status.ERROR, message=message) for s in samples}


def _sum(sample_id: str, verdicts: Sequence[tuple[Part, Score]]) -> Score:
    """The score of one sample from those of its parts."""
    raw = {part.label: v.value for part, v in verdicts if v.value is not None}
    latency_s = sum(v.latency_s for _, v in verdicts)
    failed = [(part, v) for part, v in verdicts if not v.is_ok]
    status, message, value = Status.OK, "", None
    if failed:
        part, verdict = failed[0]
        status, message = verdict.status, f"{part.label}: {verdict.message}"
    elif math.isfinite(total := sum(part.weight * raw[part.label] for part, _ in verdicts)):
        value = total
    else:
        status, message = Status.ERROR, f"the weighted sum is {total}"
    return Score(id=sample_id, status=status, value=value, parts=raw, latency_s=latency_s, message=message)


def check_ids(samples: Sequence[Sample]) -> None:
    """Raises ValueError unless all ids differ: an answer could not be told from another."""
    ids = [s.id for s in samples]
    if len(set(ids)) != len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise ValueError(f"two samples of one request have the id {twice!r}")


def by_id(scores: Sequence[Score]) -> dict[str, Score]:
    """Scores by the id of their sample; of several with one id, the first."""
    return {s.id: s for s in reversed(scores)}


def build_rubric(config: RewardConfig) -> Rubric:
    """The rubric that a recipe describes.

    Raises:
        UserError: an unknown component or option, or an import path that leads nowhere.
    """
    return Rubric(
        [
            Part(
                label=c.shown_as,
                weight=c.weight,
                reward=build_reward(c.name, c.options, f"reward.components.{i}"),
            )
            for i, c in enumerate(config.components)
        ]
    )
