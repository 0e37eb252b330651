"""Captures functions as CUDA graphs: their kernels are recorded once and then started all together.

Called by the torch engine on a GPU, for static_step.py. Knows nothing of models.
"""

import logging
from typing import Any

import torch

from rollout.engines.static_step import Run

_log = logging.getLogger(__name__)


class CudaGraphs:
    """Graphs that share one pool of memory: what one of them returned is gone when another is played."""

    def __init__(self) -> None:
        self._pool: Any = None
        self._has_failed = False

    def __call__(self, run: Run) -> Run:
        """
        Args:
            run: has run before, reads nothing back from the device, and returns tensors.

        Returns:
            What plays it; the function itself where it could not be captured, which is logged once.
        """
        if self._has_failed:
            return run
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may use the device meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                returned = run()
        except RuntimeError as error:
            self._has_failed = True
            reason = str(error).strip().splitlines()[0]
            _log.warning("no CUDA graph of a decode step, which is slower without: %s", reason)
            return run
        self._pool = graph.pool()

        def play() -> object:
            graph.replay()
            return returned

        return play
