"""The newest rows of something, as one array: what running estimates are computed from.

Used by the ensemble. Estimates are recomputed from the rows, so that what is old is forgotten exactly, and so
that every estimator is a pure function that can be tried by hand.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_service.fusion.arrays import Floats


class Window:
    """The newest `size` rows of a fixed shape, the oldest first."""

    def __init__(self, size: int, shape: tuple[int, ...]) -> None:
        self._size = size
        self.rows: Floats = np.empty((0, *shape))
        """[rows, *shape]"""

    def add(self, rows: NDArray) -> None:
        """Appends rows and forgets the oldest beyond the size; a larger batch stays whole. [n, *shape]

        Raises:
            ValueError: rows of another shape.
        """
        kept = max(self._size, len(rows))
        self.rows = np.concatenate([self.rows, rows])[-kept:]

    def state_dict(self) -> dict[str, Any]:
        """JSON-able: NaN becomes None."""
        flat = self.rows.ravel()
        return {"rows": [None if np.isnan(x) else float(x) for x in flat]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError where the state is of rows of another shape."""
        flat = np.array([np.nan if x is None else x for x in state["rows"]], dtype=np.float64)
        self.rows = flat.reshape(-1, *self.rows.shape[1:])
