"""The numbers by which a run is watched for reward hacking. Pure numpy over one batch; no state, no opinion.

What a prompt explains is taken out first: values are compared within groups (one prompt, its completions).
Only where every group holds a single sample, the batch takes the place of the group. Samples without a value
(nan) are left out; a number that is not defined is nan.
"""

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
NUM_NEIGHBOURS = 16
"""Where the batch takes the place of groups, each sample is compared with so many: all pairs are too many."""


def correlation(a: Array, b: Array, groups: Ints) -> float:
    """Pearson's correlation of two values after the mean of the group is taken from each.

    r = Σ ã b̃ / √(Σ ã² Σ b̃²), ã_i = a_i − mean of a over the group of i.

    Args:
        a, b: [n]; nan where a sample has no value.
        groups: [n], equal within a group.

    Returns:
        In [−1, 1]; nan where one of them does not vary within groups.

    Raises:
        ValueError: the three are not vectors of one length.
    """
    _check_vectors(a, b, groups)
    known = np.isfinite(a) & np.isfinite(b)
    if not known.any():
        return float("nan")
    a, b = _centred(a[known], groups[known]), _centred(b[known], groups[known])
    if _is_nothing(a) or _is_nothing(b):
        return float("nan")
    # Exact sums: those of BLAS differ in the last digit from process to process.
    ab, aa, bb = (math.fsum(x * y) for x, y in ((a, b), (a, a), (b, b)))
    return float(np.clip(ab / math.sqrt(aa * bb), -1.0, 1.0))


def disagreement(a: Array, b: Array, groups: Ints) -> float:
    """The share of pairs of samples that two values order oppositely, of those that both order at all.

    (1 − γ) / 2 with γ of Goodman and Kruskal (1954): 0 full agreement, 0.5 nothing in common, 1 opposite.

    Args:
        a, b: [n]; nan where a sample has no value.
        groups: [n], equal within a group.

    Returns:
        In [0, 1]; nan where no pair is ordered by both.

    Raises:
        ValueError: the three are not vectors of one length.
    """
    _check_vectors(a, b, groups)
    left, right = comparable_pairs(groups)
    order = np.sign(a[left] - a[right]) * np.sign(b[left] - b[right])
    num_opposite, num_alike = int((order < 0).sum()), int((order > 0).sum())
    num_ordered = num_opposite + num_alike
    return num_opposite / num_ordered if num_ordered else float("nan")


def comparable_pairs(groups: Ints) -> tuple[Ints, Ints]:
    """The places of all pairs within a group; without any, of each sample with its next neighbours.

    Args:
        groups: [n], equal within a group.

    Returns:
        Two vectors of one length: the places of the first and of the second of each pair.

    Raises:
        ValueError: `groups` is no vector.
    """
    if groups.ndim != 1:
        raise ValueError(f"groups must have shape [n], got {groups.shape}")
    order = np.argsort(groups, kind="stable")
    _, sizes = np.unique(groups, return_counts=True)
    num, is_alone = len(groups), bool((sizes <= 1).all())
    reach = min(NUM_NEIGHBOURS, num - 1) if is_alone else int(sizes.max()) - 1
    left, right = [], []
    for step in range(1, reach + 1):
        first, second = order[: num - step], order[step:]
        fitting = np.full(len(first), True) if is_alone else groups[first] == groups[second]
        left.append(first[fitting])
        right.append(second[fitting])
    empty = np.zeros(0, dtype=np.int64)
    return np.concatenate([empty, *left]), np.concatenate([empty, *right])


def duplicates_in_group(texts: Sequence[str], groups: Ints) -> float:
    """The share of completions that another sample of the group repeats word by word; groups of one left out.

    Raises:
        ValueError: not one group per text.
    """
    _check_texts(texts, groups)
    count: dict[tuple[int, str], int] = defaultdict(int)
    sizes: dict[int, int] = defaultdict(int)
    for text, group in zip(texts, groups.tolist(), strict=True):
        count[group, text] += 1
        sizes[group] += 1
    num_twins = sum(n for n in count.values() if n > 1)
    num_judged = sum(n for n in sizes.values() if n > 1)
    return num_twins / num_judged if num_judged else float("nan")


def duplicates_in_batch(texts: Sequence[str], prompts: Sequence[str]) -> float:
    """The share of completions that were also given to another prompt, word by word.

    nan where the batch has one prompt only.

    Raises:
        ValueError: not one prompt per text.
    """
    if len(texts) != len(prompts):
        raise ValueError(f"one prompt per text: {len(texts)} texts, {len(prompts)} prompts")
    if len(set(prompts)) < 2:
        return float("nan")
    asked: dict[str, set[str]] = defaultdict(set)
    for text, prompt in zip(texts, prompts, strict=True):
        asked[text].add(prompt)
    return sum(len(asked[text]) > 1 for text in texts) / len(texts)


def standardised(values: Array) -> Array:
    """[n], in standard deviations from the mean; 0 where nothing varies or nothing is known."""
    known = values[np.isfinite(values)]
    if len(known) == 0 or _is_nothing(known - known.mean()):
        return np.zeros_like(values)
    return np.nan_to_num((values - known.mean()) / known.std(), nan=0.0)


def _centred(values: Array, groups: Ints) -> Array:
    """Minus the mean of the group; minus the mean of all where every group has one sample."""
    _, places, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if (sizes <= 1).all():
        return values - values.mean()
    means = np.bincount(places, weights=values) / sizes
    centred: Array = values - means[places]
    return centred


def _is_nothing(values: Array) -> bool:
    """Nothing but what rounding leaves of equal numbers."""
    return bool(np.abs(values).max(initial=0.0) < 1e-9)


def _check_vectors(a: Array, b: Array, groups: Ints) -> None:
    if a.ndim != 1 or not a.shape == b.shape == groups.shape:
        raise ValueError(f"values and groups must have one shape [n]: {a.shape}, {b.shape}, {groups.shape}")


def _check_texts(texts: Sequence[str], groups: Ints) -> None:
    if groups.shape != (len(texts),):
        raise ValueError(f"one group per text: {len(texts)} texts, groups of shape {groups.shape}")
