"""Several components in one process, asked together: one verdict per sample, with a part for each of them.

What runs in the replicas for CPU components, and the part of a service in one process that needs no guard.
A bundle knows no weights: its `value` only says that every component scored.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reward_service.reward import in_one_line
from reward_service.types import NOTHING, Sample, Score, Status

Scorer = Callable[[Sequence[Sample]], Any]
"""`Reward.score` of a component; untrusted, so that its answer may be anything."""


class Bundle:
    """Scores samples by all components; failures stay failures."""

    def __init__(self, scorers: Mapping[str, Scorer]) -> None:
        """`scorers` by the label of the component, in the order of the recipe."""
        self._scorers = dict(scorers)

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """One score per sample, in the same order: ok with all parts, or as the first that failed."""
        judged = [(label, judge(scorer, samples)) for label, scorer in self._scorers.items()]
        return [_together(s.id, [(label, by_id[s.id]) for label, by_id in judged]) for s in samples]


def judge(scorer: Scorer, samples: Sequence[Sample]) -> dict[str, Score]:
    """A verdict for every sample, by id, whatever the component does."""
    message = "it gave no score for the sample"
    judged: dict[str, Score] = {}
    try:
        judged = by_id(scorer(samples))
    except Exception as error:  # Reward code is untrusted, and so is an overridden `score`.
        message = in_one_line(error)
    return {s.id: judged.get(s.id) or Score(id=s.id, status=Status.ERROR, message=message) for s in samples}


def _together(sample_id: str, verdicts: Sequence[tuple[str, Score]]) -> Score:
    parts = {label: v.value for label, v in verdicts if v.value is not None}
    failed = next(((label, v) for label, v in verdicts if not v.is_ok), None)
    return Score(
        id=sample_id,
        status=Status.OK if failed is None else failed[1].status,
        value=1.0 if failed is None else None,
        parts=parts,
        latency_s=sum(v.latency_s for _, v in verdicts),
        usage=sum((v.usage for _, v in verdicts if v.usage is not NOTHING), NOTHING),
        message="" if failed is None else f"{failed[0]}: {failed[1].message}",
    )


def check_ids(samples: Sequence[Sample]) -> None:
    """Raises ValueError unless all ids differ: an answer could not be told from another."""
    ids = [s.id for s in samples]
    if len(set(ids)) != len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise ValueError(f"two samples of one request have the id {twice!r}")


def by_id(scores: Sequence[Score]) -> dict[str, Score]:
    """Scores by the id of their sample; of several with one id, the first."""
    return {s.id: s for s in reversed(scores)}
