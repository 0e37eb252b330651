"""The digest of tensors, taken piece by piece while other work is done on them.

Called by weights.py: what is copied, or looked at, is hashed while a cache still has it, so that memory is
read once and not once for each. Knows neither models nor versions.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xxhash
from torch import Tensor

PIECE_BYTES = 2**19
"""Half the cache that a core of today's servers has to itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """Name, shape and dtype of one tensor.

    Example:
        >>> TensorSpec(name="model.norm.weight", shape=(256,), dtype="float32")
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    """As on the wire: torch's name without the prefix."""

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


class Digest:
    """xxh3-128 over the specs as JSON, then the bytes of each tensor cast to the dtype of its spec.

    How tensors are cut into pieces is no part of it.
    """

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        listed = [[spec.name, spec.shape, spec.dtype] for spec in specs]
        self._hashed = xxhash.xxh3_128(json.dumps(listed).encode())

    def add(self, tensor: Tensor, dtype: torch.dtype) -> None:
        """Takes the next tensor, as it would be sent in `dtype`."""
        self._hashed.update(_bytes(tensor.to("cpu", dtype).contiguous()).data)

    def add_looking(self, tensor: Tensor) -> bool:
        """Takes the next tensor as it is, flat on the CPU; returns whether all its numbers are finite."""
        pieces = tensor.view(-1).split(PIECE_BYTES // tensor.itemsize)
        was_finite = True
        for piece, memory in zip(pieces, _cut(tensor), strict=True):
            self._hashed.update(memory.data)
            was_finite = was_finite and _is_finite(piece)
        return was_finite

    def add_copying(self, source: Tensor, target: Tensor, dtype: torch.dtype) -> None:
        """Copies the source into the target, and takes what the target then holds: each piece is read back
        out of it."""
        if source.dtype == target.dtype == dtype and _is_flat(source) and _is_flat(target):
            for read, written in zip(_cut(source), _cut(target), strict=True):
                # memcpy writes whole lines without reading them first, which torch's own loop does not.
                np.copyto(written, read)
                self._hashed.update(written.data)
        else:
            self.add(target.copy_(source), dtype)

    def hexdigest(self) -> str:
        return self._hashed.hexdigest()


def overlap(tensors: Sequence[Tensor]) -> bool:
    """Whether two of the tensors may lie in the same memory."""
    ends: dict[torch.device, int] = {}
    for tensor in sorted((t for t in tensors if t.numel()), key=lambda t: t.data_ptr()):
        if tensor.data_ptr() < ends.get(tensor.device, 0):
            return True
        strides = zip(tensor.shape, tensor.stride(), strict=True)
        last = sum((length - 1) * stride for length, stride in strides)
        ends[tensor.device] = tensor.data_ptr() + (last + 1) * tensor.itemsize
    return False


def _is_finite(numbers: Tensor) -> bool:
    # A finite sum has finite terms, and a sum needs no mask; it may overflow without any term being at fault.
    return math.isfinite(numbers.sum().item()) or bool(numbers.isfinite().all())


def _is_flat(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.is_contiguous()


def _bytes(flat: Tensor) -> np.ndarray:
    memory: np.ndarray = flat.view(-1).view(torch.uint8).numpy()
    return memory


def _cut(flat: Tensor) -> Iterator[np.ndarray]:
    """The bytes of a flat tensor in pieces; one that is empty has an empty piece."""
    memory = _bytes(flat)
    return (memory[start : start + PIECE_BYTES] for start in range(0, max(len(memory), 1), PIECE_BYTES))
