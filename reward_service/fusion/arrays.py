"""What the mathematics of this folder agrees on: float64 arrays in which NaN means that nothing was said."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]

LARGEST = 1e100
"""Nothing is learned from larger numbers: their squares would stay in running estimates for ever, as
infinity."""
SMALLEST = 1e-18
"""Variances below count as this where they are divided by, so that perfect judges share a weight."""


def want_rank(rank: int, **arrays: NDArray) -> None:
    """Refuse arrays of another rank, or of unequal shapes: broadcasting hides wrong axes.

    Raises:
        ValueError: names every array with its shape.
    """
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != rank for shape in shapes.values()):
        raise ValueError(f"want equal shapes of rank {rank}, got {shapes}")


def group_index(groups: Sequence[str]) -> Ints:
    """A number per sample, equal where the names of groups are; an empty name is a group of its own. [n]"""
    names = [name or ("alone", place) for place, name in enumerate(groups)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], dtype=np.intp)


def sum_by_group(values: Floats, group: Ints) -> Floats:
    """Sums over the samples of each group; what is NaN does not count. [n], [n] -> [groups]"""
    want_rank(1, values=values, group=group)
    sums = np.zeros(num_groups(group))
    np.add.at(sums, group, np.nan_to_num(values))
    return sums


def num_groups(group: Ints) -> int:
    return int(group.max()) + 1 if len(group) else 0
