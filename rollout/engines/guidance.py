"""What an actor plays: the model, moved towards what a Q function thinks better, with some exploration.

    p ∝ truncate(softmax(logits / T)) · exp(β (Q̄ − V)),   then   (1 − ε) p + ε · uniform(what truncation kept)

Pure functions; called by the torch engine with one row per completion. Truncation comes first, so that a Q
function, which knows little of tokens that nobody ever took, cannot bring junk back.

Shapes: N rows, V words of the vocabulary.
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from rollout.engines.sampling import certain, distribution, truncate


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """How each row draws, see rollout.types.Sampling; each [N]."""

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    beta: Tensor
    epsilon: Tensor

    @property
    def is_plain(self) -> Tensor:
        """[N] bool: rows that draw from the whole distribution of the model, at a temperature above 0."""
        is_whole = (self.top_k == 0) & (self.top_p >= 1)
        return is_whole & (self.beta == 0) & (self.epsilon == 0) & (self.temperature > 0)

    def only(self, rows: Tensor) -> "Controls":
        """Those of some rows, given as [N] bool or as numbers."""
        return Controls(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def played(logits: Tensor, advantages: Tensor | None, controls: Controls) -> Tensor:
    """The distribution that the next token of each row is drawn from.

    At temperature 0 that is certainty of the token with the highest log π + β (Q̄ − V), where π is truncated
    at temperature 1; ε is mixed in after that. Rows with β = ε = 0 are those of `truncate(distribution(…))`,
    bit for bit.

    Args:
        logits: [N, V], any floating dtype.
        advantages: [N, V] Q̄ − V; None where no row has β > 0.

    Returns:
        [N, V] float32.

    Raises:
        ValueError: β without advantages.
    """
    is_guided, is_exploring = controls.beta > 0, controls.epsilon > 0
    if not bool((is_guided | is_exploring).any()):
        return _truncated(logits, controls)
    is_greedy = (controls.temperature == 0) & (is_guided | is_exploring)
    kept = _truncated(logits, replace(controls, temperature=controls.temperature.masked_fill(is_greedy, 1.0)))
    probabilities = kept
    if bool(is_guided.any()):
        if advantages is None:
            raise ValueError("rows with beta above 0 need advantages")
        probabilities = guided(kept, advantages, controls.beta)
    if bool(is_greedy.any()):
        probabilities = certain(probabilities, probabilities, is_greedy)
    return mixed(probabilities, kept > 0, controls.epsilon)


def guided(probabilities: Tensor, advantages: Tensor, beta: Tensor) -> Tensor:
    """p · exp(β A), renormalised (ILQL, arXiv:2206.11871). Rows with β = 0 come back bit for bit.

    Args:
        probabilities: [N, V]; 0 stays 0, whatever the advantage.
        advantages: [N, V], of any floating dtype; what a whole row has in common has no influence.
        beta: [N], >= 0.
    """
    _check(probabilities, advantages, beta)
    moved = (probabilities.log() + beta[:, None] * advantages.float()).softmax(-1)
    return torch.where((beta > 0)[:, None], moved, probabilities)


def mixed(probabilities: Tensor, is_kept: Tensor, epsilon: Tensor) -> Tensor:
    """(1 − ε) p + ε · uniform over `is_kept`. Rows with ε = 0 come back bit for bit.

    Args:
        probabilities: [N, V].
        is_kept: [N, V] bool, at least one in each row.
        epsilon: [N] in [0, 1].
    """
    _check(probabilities, is_kept, epsilon)
    share = epsilon[:, None].to(probabilities.dtype)
    uniform = is_kept / is_kept.sum(-1, keepdim=True)
    return torch.where(share > 0, (1.0 - share) * probabilities + share * uniform, probabilities)


def _truncated(logits: Tensor, controls: Controls) -> Tensor:
    return truncate(distribution(logits, controls.temperature), controls.top_k, controls.top_p)


def _check(probabilities: Tensor, other: Tensor, column: Tensor) -> None:
    if probabilities.ndim != 2 or other.shape != probabilities.shape or column.shape != other.shape[:1]:
        shapes = [tuple(tensor.shape) for tensor in (probabilities, other, column)]
        raise ValueError(f"expected two matrices [N, V] and a column [N], got {shapes}")
