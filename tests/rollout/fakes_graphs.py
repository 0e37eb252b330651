"""What a CUDA graph is, on a CPU: operations that are written down once and done again on the same memory.

As there, Python runs once, at the capture; a replay knows addresses alone. Reading a number back from the
device, or asking for a shape that depends on numbers, is refused, as a stream that is captured refuses it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WORDS_FROM_THE_DEVICE = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal")


class Tape(TorchDispatchMode):
    """Writes down what is done inside its block."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.overloadpacket.__name__ in WORDS_FROM_THE_DEVICE:
            raise RuntimeError(f"{func} asks the device for a word in the middle of a capture")
        returned = func(*args, **(kwargs or {}))
        self.entries.append((func, args, kwargs or {}, returned))
        return returned

    def play(self) -> None:
        """Do all of it again, into the memory of the first time."""
        for func, args, kwargs, returned in self.entries:
            # A view, or what was written in place, lies where it lay.
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(returned), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class FakeGraphs:
    """Captures as CudaGraphs does; counts."""

    def __init__(self) -> None:
        self.num_captured = self.num_played = 0

    def __call__(self, run: Callable[[], Any]) -> Callable[[], Any]:
        tape = Tape()
        with tape:
            returned = run()
        self.num_captured += 1
        for tensor in tree_leaves(returned):
            # A capture computes nothing: what it returns has no contents before the first replay.
            tensor.fill_(torch.nan if tensor.is_floating_point() else -1)

        def play() -> Any:
            tape.play()
            self.num_played += 1
            return returned

        return play
