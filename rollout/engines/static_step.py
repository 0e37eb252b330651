"""One more token for every slot, over memory that stays where it is, so that a GPU is told all of it at once.

A step is hundreds of small kernels. A CUDA graph starts them all together, and asks in return that shapes
and addresses stay, and that nothing is read back in between. So inputs are copied to one place, rows and
positions are rounded up to a few sizes, each with a graph of its own, and weights change in place
(`Engine.load`). Where the cache moves, the graphs go. Called by the torch engine; what captures is given
(cuda_graphs.py), so that the same function runs step by step on a CPU.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rollout.engines.fused import FusedDecoder
from rollout.engines.kv_cache import ROUND_TO, SlotCache
from rollout.engines.passes import Said
from rollout.engines.sampling import pick

Drawn = tuple[Tensor, Tensor]
"""Tokens [n] int64, and their log-probabilities [n] float32."""
Run = Callable[[], Any]
Capture = Callable[[Run], Run]
"""Makes of a function one that does the same again, and returns the same tensors with new contents."""


class Inputs(NamedTuple):
    """Of rows 0..n-1, each [n]."""

    token: Tensor
    """int64, the last of each row."""
    position: Tensor
    """int64, where it stands; the row holds all positions before it."""
    temperature: Tensor
    """float32, above 0 where the row is drawn here."""
    uniform: Tensor
    """float64 in [0, 1), which picks the token."""


class StaticStep:
    """Decodes rows of a cache in sizes that come again.

    A size is run as it is when it is first met, so that libraries make themselves ready, captured the second
    time, and played from then on.
    """

    def __init__(
        self, decoder: FusedDecoder, num_slots: int, device: torch.device, capture: Capture | None = None
    ) -> None:
        """`capture`: None runs the function itself."""
        self._decoder, self._num_slots, self._capture = decoder, num_slots, capture
        self._inputs = Inputs(
            token=torch.zeros(num_slots, dtype=torch.int64, device=device),
            position=torch.zeros(num_slots, dtype=torch.int64, device=device),
            temperature=torch.ones(num_slots, device=device),
            uniform=torch.zeros(num_slots, dtype=torch.float64, device=device),
        )
        self._met: set[tuple[str, int, int]] = set()
        self._plays: dict[tuple[str, int, int], Run] = {}
        self._addresses: tuple[int, ...] = ()

    def drawn(self, cache: SlotCache, inputs: Inputs, num_positions: int) -> Drawn:
        """A token for each row, from the whole distribution of the model at the row's temperature. What is
        returned is overwritten by the next call.

        Args:
            num_positions: one more than the largest position, at least.
        """
        token, logprob = self._play("drawn", _draw, cache, inputs, num_positions)
        return token[: len(inputs.token)], logprob[: len(inputs.token)]

    def said(self, cache: SlotCache, inputs: Inputs, num_positions: int) -> Said:
        """What comes next in each row, for who draws otherwise; see `drawn`."""
        logits, states = self._play("said", _say, cache, inputs, num_positions)
        return Said(logits[: len(inputs.token)], states[: len(inputs.token)])

    def _play(
        self,
        name: str,
        finish: Callable[[Said, Inputs], tuple[Tensor, Tensor]],
        cache: SlotCache,
        inputs: Inputs,
        num_positions: int,
    ) -> Any:
        if cache.addresses != self._addresses:
            self._met.clear()
            self._plays.clear()
            self._addresses = cache.addresses
        num_rows = round_up_rows(len(inputs.token), self._num_slots)
        num_positions = round_up_positions(num_positions, cache.capacity)
        self._lay(inputs)
        size = (name, num_rows, num_positions)
        run = partial(self._run, finish, cache, num_rows, num_positions)
        if self._capture is None or size not in self._met:
            self._met.add(size)
            return run()
        if size not in self._plays:
            self._plays[size] = self._capture(run)
        return self._plays[size]()

    def _lay(self, inputs: Inputs) -> None:
        num_rows = len(inputs.token)
        for own, new in zip(self._inputs, inputs, strict=True):
            own[:num_rows].copy_(new)
        # Rows that are not in use write where there is room, and where whoever gets the slot writes first.
        self._inputs.position[num_rows:].zero_()

    def _run(
        self,
        finish: Callable[[Said, Inputs], tuple[Tensor, Tensor]],
        cache: SlotCache,
        num_rows: int,
        num_positions: int,
    ) -> tuple[Tensor, Tensor]:
        """What is captured: reads the inputs, the weights and the cache, and asks nothing of them."""
        own = Inputs(*(x[:num_rows] for x in self._inputs))
        mask = cache.aim(own.position, num_positions)
        return finish(self._decoder.under_mask(cache, own.token, own.position, mask), own)


def round_up_rows(num_rows: int, num_slots: int) -> int:
    """The power of two that holds so many rows, or all slots."""
    return min(1 << (num_rows - 1).bit_length(), num_slots)


def round_up_positions(num_positions: int, capacity: int) -> int:
    """Steps of 64 positions, above 512 of an eighth to a quarter of the whole: so much is read in vain."""
    step = max(ROUND_TO, 1 << max((num_positions - 1).bit_length() - 3, 0))
    return min(-(-num_positions // step) * step, capacity)


def _draw(said: Said, inputs: Inputs) -> Drawn:
    # Divided by 1, too, where `distribution` looks whether all are 1: a quotient by 1 is the number itself.
    return pick((said.logits.float() / inputs.temperature[:, None]).softmax(-1), inputs.uniform)


def _say(said: Said, inputs: Inputs) -> Said:
    return said
