"""How a token is drawn from logits: the distribution first, then one uniform number picks from it.

Pure functions; called by the torch engine, some by way of guidance.py. Because the log-probability is read
off the very distribution that was drawn from, it is exact for every temperature and truncation.

Shapes: N rows, V words of the vocabulary.
"""

import math

import numpy as np
import torch
from torch import Tensor

MIN_BLOCK, MAX_BLOCK = 32, 256
"""Words that are summed together first, where they divide the vocabulary evenly."""
_BELOW_ONE = math.nextafter(1.0, 0.0)


def uniforms(seed: int, num: int) -> np.ndarray:
    """[num] float64 in [0, 1): the random numbers of one completion, one per token.

    A counter-based generator (Philox, Salmon et al. 2011) keyed by the seed: the first numbers are the same
    for every `num`, so a completion does not change when it may become longer.
    """
    return np.random.Generator(np.random.Philox(key=seed)).random(num)


def distribution(logits: Tensor, temperature: Tensor) -> Tensor:
    """softmax(logits / temperature); the limit for temperature 0, which is the most probable token alone.

    Args:
        logits: [N, V], any floating dtype.
        temperature: [N], >= 0.

    Returns:
        [N, V] float32.
    """
    _check_rows(logits, temperature)
    if bool((temperature == 1).all()):
        # The usual case: one pass less over the logits.
        return logits.float().softmax(-1)
    is_greedy = temperature == 0
    scaled = logits.float() / temperature.masked_fill(is_greedy, 1.0)[:, None]
    probabilities = scaled.softmax(-1)
    return certain(probabilities, scaled, is_greedy) if bool(is_greedy.any()) else probabilities


def certain(probabilities: Tensor, scores: Tensor, is_greedy: Tensor) -> Tensor:
    """In rows that are greedy, all mass on the highest score; the others come back bit for bit.

    Args:
        probabilities: [N, V].
        scores: [N, V]; the first of the highest counts.
        is_greedy: [N] bool.
    """
    _check_rows(probabilities, is_greedy)
    best = torch.zeros_like(probabilities).scatter_(1, scores.argmax(-1, keepdim=True), 1.0)
    # A row that is not finite stays so: an argmax would hide it.
    best.masked_fill_(~probabilities.sum(-1, keepdim=True).isfinite(), torch.nan)
    return torch.where(is_greedy[:, None], best, probabilities)


def truncate(probabilities: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    """Keeps the top_k most probable tokens, of these the smallest set with mass top_p, and renormalises.

    Nucleus sampling: Holtzman et al. 2020, arXiv:1904.09751. Rows that ask for neither come back bit for bit.

    Args:
        probabilities: [N, V].
        top_k: [N] int64; 0 keeps all.
        top_p: [N] in (0, 1]; 1 keeps all.
    """
    _check_rows(probabilities, top_k, top_p)
    num_words = probabilities.shape[1]
    limit = torch.where(top_k > 0, top_k, num_words).clamp_max(num_words)
    is_cut = (limit < num_words) | (top_p < 1)
    # The most candidates that any row that is cut can keep: a greedy neighbour spares us the full sort.
    num_candidates = int(limit[is_cut].max()) if bool(is_cut.any()) else 0
    if num_candidates == 0:
        return probabilities
    best, order = probabilities.topk(num_candidates)
    best = best * (torch.arange(num_candidates, device=best.device) < limit[:, None])
    best = best / best.sum(-1, keepdim=True)
    mass_before = best.cumsum(-1) - best
    best = best * ((mass_before < top_p[:, None]) | (top_p[:, None] >= 1))
    best = best / best.sum(-1, keepdim=True)
    return torch.where(
        is_cut[:, None], torch.zeros_like(probabilities).scatter_(1, order, best), probabilities
    )


def pick(probabilities: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse of the cumulative distribution at the uniform number.

    Args:
        probabilities: [N, V] float32.
        uniform: [N] float64 in [0, 1).

    Returns:
        Token ids [N] int64 and their log-probabilities [N] float32 (NaN where the row is not finite).
    """
    _check_rows(probabilities, uniform)
    num_rows, num_words = probabilities.shape
    block = math.gcd(num_words, MAX_BLOCK)
    if MIN_BLOCK <= block < num_words:
        token = _two_steps(probabilities.view(num_rows, -1, block), uniform[:, None])
    else:
        token = _invert(probabilities, uniform[:, None])
    return token.squeeze(1), probabilities.gather(1, token).squeeze(1).log()


def _two_steps(blocks: Tensor, uniform: Tensor) -> Tensor:
    """[N, M, K], [N, 1] -> [N, 1]: the word at the uniform number in M blocks of K words laid side by side.

    First the block, then the word: a running sum over all words is the dearest part of a draw.
    """
    size = blocks.shape[2]
    mass = blocks.sum(-1).cumsum(-1, dtype=torch.float64)
    aim = uniform * mass[:, -1:]
    block = torch.searchsorted(mass, aim, right=True).clamp_max_(blocks.shape[1] - 1)
    before = torch.where(block > 0, mass.gather(1, (block - 1).clamp_min_(0)), 0.0)
    own = blocks.gather(1, block[:, :, None].expand(-1, -1, size)).squeeze(1)
    share = (aim - before) / (mass.gather(1, block) - before)
    return block * size + _invert(own, share)


def _invert(probabilities: Tensor, share: Tensor) -> Tensor:
    """[N, V], [N, 1] -> [N, 1]: the first word at which the running sum exceeds this share of its end."""
    # float64, because in float32 the tail of a large vocabulary is lost in the sum.
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    aim = share.clamp_max(_BELOW_ONE) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, aim, right=True).clamp_max_(probabilities.shape[1] - 1)


def _check_rows(matrix: Tensor, *columns: Tensor) -> None:
    if matrix.ndim != 2 or any(column.shape != matrix.shape[:1] for column in columns):
        shapes = [tuple(tensor.shape) for tensor in (matrix, *columns)]
        raise ValueError(f"expected one matrix [N, V] and columns [N], got {shapes}")
