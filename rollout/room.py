"""Memory for packed weights that is used again when nobody holds the last ones any more.

The learner keeps one: what the kernel has to zero before each publication costs as much as packing. Knows
nothing of what lies in it.
"""

import weakref

import numpy as np

MAX_KEPT_BYTES = 2**30
"""A learner needs its memory for other things between two publications; large models rather take the time."""


class Room:
    """Flat arrays, one for each name at a time."""

    def __init__(self, max_kept_bytes: int = MAX_KEPT_BYTES) -> None:
        """`max_kept_bytes` of one array: a longer one is given back as soon as nobody holds it."""
        self._max_kept_bytes = max_kept_bytes
        self._kept: dict[str, np.ndarray] = {}
        self._lent: dict[str, weakref.ref[np.ndarray]] = {}

    def take(self, name: str, size: int, dtype: np.dtype) -> np.ndarray:
        """An array [size] whose content is anything. As long as it, or a view of it, is held, it is the
        holder's alone."""
        last = self._lent.get(name)
        if last is not None and last() is not None:
            return np.empty(size, dtype)
        kept = self._kept.pop(name, None)
        if kept is None or kept.size != size or kept.dtype != dtype:
            # By numpy, which asks for large pages: small ones take longer to touch than to fill.
            kept = np.empty(size, dtype)
        if not 0 < kept.nbytes <= self._max_kept_bytes:
            return kept
        # Over a memoryview: views of a view of an array would hold the array, and not what is lent here.
        lent: np.ndarray = np.frombuffer(kept.data, dtype)
        self._kept[name], self._lent[name] = kept, weakref.ref(lent)
        return lent
