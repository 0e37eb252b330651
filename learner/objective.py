"""The loss of a part of a batch, such that the losses of all parts add up to the loss of the whole."""

from collections.abc import Mapping

import torch
from torch import Tensor

from learner.algorithms.base import Term
from learner.functional.aggregate import Count


def objective(terms: Mapping[str, Term], counts: Mapping[Count, float]) -> Tensor:
    """Σ weight · total / count, over the terms that have a weight. -> []

    Args:
        terms: of the part at hand.
        counts: of the whole batch of the step, over all micro-batches and ranks.
    """
    weighted = [t.weight * t.total / max(counts[t.per], 1.0) for t in terms.values() if t.weight != 0.0]
    return torch.stack(weighted).sum()
