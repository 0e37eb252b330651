"""Keys and values of the sequences under way: one row of a pre-allocated block per slot.

Called by the torch engine (rows in, rows moved) and, in the guise of a transformers Cache, by the layers of
the model (one token per row). Knows nothing of requests or sampling.

Shapes: N rows, H heads, C positions, D width of a head.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import Cache

ROUND_TO = 64
"""Capacity grows in steps of this many positions, so that requests of similar length share one allocation."""

Layers = Sequence[tuple[Tensor, Tensor]]
"""Keys and values per layer, each [B, H, T, D]."""


class SlotCache(Cache):
    """A block [N, H, C, D] of keys and one of values per layer, of which a step reads only the filled corner.

    Usage:
        cache.reserve(num_positions, like=layers)       # before rows come in
        cache.put(rows, layers, source_rows, length)    # a prefilled prompt, to as many rows as want it
        cache.aim(position)                             # then run the model on one token for each row 0..n-1
    """

    def __init__(self, num_rows: int) -> None:
        super().__init__(layers=[])
        self.num_rows = num_rows
        self.capacity = 0
        self._blocks: list[tuple[Tensor, Tensor]] = []
        self._addresses: tuple[int, ...] = ()
        self._rows = torch.empty(0, dtype=torch.int64)
        self._position = self._rows
        self._length = 0

    def reserve(self, num_positions: int, like: Layers) -> None:
        """Makes room for sequences of this length; what the rows hold is kept."""
        if num_positions <= self.capacity:
            return
        grown = -(-num_positions // ROUND_TO) * ROUND_TO
        blocks = []
        for layer, tensors in enumerate(like):
            old = self._blocks[layer] if self._blocks else (None, None)
            keys, values = (self._grow(o, t, grown) for o, t in zip(old, tensors, strict=True))
            blocks.append((keys, values))
        self._blocks, self.capacity = blocks, grown
        self._addresses = (grown, *(tensor.data_ptr() for block in blocks for tensor in block))

    def put(self, rows: Tensor, layers: Layers, sources: Tensor, length: int) -> None:
        """Copies positions 0..length-1 of the rows `sources` of a prefilled batch into `rows`."""
        for block, layer in zip(self._blocks, layers, strict=True):
            for own, new in zip(block, layer, strict=True):
                own[rows, :, :length] = new[sources, :, :length]

    def move(self, source: Tensor, target: Tensor, length: int) -> None:
        """Copies positions 0..length-1 from row to row."""
        for block in self._blocks:
            for own in block:
                own[target, :, :length] = own[source, :, :length]

    @property
    def addresses(self) -> tuple[int, ...]:
        """Where the blocks lie, and how long their rows are: whether they are where they were."""
        return self._addresses

    def aim(self, position: Tensor, num_positions: int | None = None) -> Tensor:
        """Row i will next write at position[i] and read up to it.

        Args:
            position: [n] int64, for rows 0..n-1.
            num_positions: how many are read, more than any position; None: as few as it can be, which is
                asked of the device.

        Returns:
            The attention mask for the model: [n, 1, 1, L], 0 where a row may look, else very negative.
        """
        self._position = position
        self._rows = torch.arange(len(position), device=position.device)
        self._length = int(position.max()) + 1 if num_positions is None else num_positions
        dtype = self._blocks[0][0].dtype
        unseen = torch.arange(self._length, device=position.device) > position[:, None]
        mask = torch.zeros(unseen.shape, dtype=dtype, device=position.device)
        return mask.masked_fill_(unseen, torch.finfo(dtype).min)[:, None, None, :]

    def block(self, layer_idx: int) -> tuple[Tensor, Tensor]:
        """All keys and values of a layer, [N, H, C, D] each: for who writes and reads them by himself."""
        return self._blocks[layer_idx]

    def require_room(self, position: Tensor) -> None:
        """
        Raises:
            IndexError: there are more rows than the cache has, or a position lies beyond its capacity.
        """
        if len(position) > self.num_rows or int(position.max()) >= self.capacity:
            raise IndexError(
                f"{len(position)} rows up to position {int(position.max())} do not fit into {self.num_rows} "
                f"rows of {self.capacity} positions"
            )

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Called by the attention of layer `layer_idx` with [n, H, 1, D]; returns views [n, H, L, D]."""
        keys, values = self._blocks[layer_idx]
        keys[self._rows, :, self._position] = key_states.squeeze(2)
        values[self._rows, :, self._position] = value_states.squeeze(2)
        num_rows = len(self._rows)
        return keys[:num_rows, :, : self._length], values[:num_rows, :, : self._length]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """The longest row before the token that comes next."""
        return max(self._length - 1, 0)

    def _grow(self, old: Tensor | None, like: Tensor, capacity: int) -> Tensor:
        # Zeros, not empty: a masked position still enters the sum with weight 0, and 0 * NaN is NaN.
        block = like.new_zeros(self.num_rows, like.shape[1], capacity, like.shape[3])
        if old is not None:
            block[:, :, : old.shape[2]] = old
        return block
