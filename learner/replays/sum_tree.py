"""Numbers of which one is drawn in proportion to its size, in logarithmic time: a binary tree of their sums.

Prioritised replay uses it (chances.py). It knows nothing of what the numbers stand for.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Slots = NDArray[np.int64] | Sequence[int]


class SumTree:
    """Leaves 0 … capacity − 1, each 0 until it is set; every inner node is the sum of its two children.

    Sums are added up anew along the path of a changed leaf, never corrected by a difference: the tree is a
    function of its leaves, bit for bit, whatever was in them before.

    Example:
        >>> tree = SumTree()
        >>> tree.set([0, 1], [1.0, 3.0])
        >>> tree.find([0.5, 1.0, 3.9]).tolist()
        [0, 1, 1]
    """

    def __init__(self) -> None:
        self._size = 1
        self._nodes = np.zeros(2)
        """[2 · size] fp64: node 1 is the root, the children of node i are 2i and 2i + 1, leaves come last."""

    @property
    def total(self) -> float:
        return float(self._nodes[1])

    def get(self, slots: Slots) -> NDArray[np.float64]:
        """What stands at these leaves; 0 where nothing was ever set."""
        wanted = np.asarray(slots, dtype=np.int64)
        here = wanted < self._size
        found: NDArray[np.float64] = np.where(here, self._nodes[self._size + np.where(here, wanted, 0)], 0.0)
        return found

    def set(self, slots: Slots, values: Sequence[float] | NDArray[np.float64]) -> None:
        """Set these leaves; the tree grows as far as it must. Of a leaf named twice, the last value holds.

        Raises:
            ValueError: a negative slot, not one value each, or a value that is negative or not finite.
        """
        wanted, given = np.asarray(slots, dtype=np.int64), np.asarray(values, dtype=np.float64)
        if wanted.shape != given.shape or wanted.ndim != 1:
            raise ValueError(f"want one value per slot, got {given.shape} for {wanted.shape}")
        if not (np.isfinite(given).all() and (given >= 0).all() and (wanted >= 0).all()):
            raise ValueError(f"slots and values must be finite and not negative, got {wanted} and {given}")
        if not wanted.size:
            return
        self._grow(int(wanted.max()) + 1)
        nodes = self._size + wanted
        self._nodes[nodes] = given
        while nodes[0] > 1:
            nodes = np.unique(nodes // 2)
            self._nodes[nodes] = self._nodes[2 * nodes] + self._nodes[2 * nodes + 1]

    def find(self, masses: Sequence[float] | NDArray[np.float64]) -> NDArray[np.int64]:
        """For each mass the leaf s with Σ_{i<s} leaf_i ≤ mass < Σ_{i≤s} leaf_i; never a leaf that is 0.

        Raises:
            ValueError: all leaves are 0, or a mass outside of [0, total].
        """
        left_over = np.array(masses, dtype=np.float64)
        if self.total <= 0 or not ((left_over >= 0) & (left_over <= self.total)).all():
            raise ValueError(f"masses must be in [0, {self.total}] and the total positive, got {left_over}")
        nodes = np.ones(left_over.shape, dtype=np.int64)
        for _ in range(self._size.bit_length() - 1):
            left = self._nodes[2 * nodes]
            # Rounding may leave a mass that is all of a subtree: then its right half may be empty.
            is_right = (left_over >= left) & (self._nodes[2 * nodes + 1] > 0)
            left_over = np.where(is_right, left_over - left, left_over)
            nodes = 2 * nodes + is_right
        return nodes - self._size

    def _grow(self, num_leaves: int) -> None:
        if num_leaves <= self._size:
            return
        leaves = self._nodes[self._size :]
        size = 1 << (num_leaves - 1).bit_length()
        nodes = np.zeros(2 * size)
        nodes[size : size + len(leaves)] = leaves
        level = size // 2
        while level:
            parents = np.arange(level, 2 * level)
            nodes[parents] = nodes[2 * parents] + nodes[2 * parents + 1]
            level //= 2
        self._size, self._nodes = size, nodes
