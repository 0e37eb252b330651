"""What attention in C has beside its heads: common numbers of a layer, and where tokens stand.

Called by kernels.py and by the decoder, which fills it; shapes as in kernels.py. Knows nothing of models.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

_Pointer, _Long, _Float = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


class _Attention(ctypes.Structure):
    """struct attention of kernels.c."""

    _fields_: ClassVar[Sequence[tuple[str, type]]] = [
        *((name, _Pointer) for name in ("cosine", "sine", "position", "query_norm", "key_norm")),
        *((name, _Long) for name in ("num_rows", "num_queries", "num_groups", "capacity")),
        ("head_dim", ctypes.c_int32),
        ("scaling", _Float),
        ("epsilon", _Float),
    ]


@dataclass(frozen=True, kw_only=True)
class Common:
    """What the attention of a layer has beside its heads and its cache."""

    cosine: Tensor
    """Of all positions, [C', D] float32."""
    sine: Tensor
    """Likewise, the first half negated: x cosine + swapped(x) sine rotates x."""
    scaling: float
    norms: tuple[Tensor, Tensor] | None = None
    """Weights [D] of the RMS norms of queries and keys, where there are any."""
    epsilon: float = 0.0
    """Of those norms."""

    def struct(self, shape: torch.Size, num_groups: int, capacity: int, position: Tensor) -> Any:
        """A pointer to the `struct attention` of a call with heads of this shape."""
        num_rows, num_heads, head_dim = shape
        query_norm, key_norm = (None, None) if self.norms is None else (n.data_ptr() for n in self.norms)
        return ctypes.byref(
            _Attention(
                cosine=self.cosine.data_ptr(),
                sine=self.sine.data_ptr(),
                position=position.data_ptr(),
                query_norm=query_norm,
                key_norm=key_norm,
                num_rows=num_rows,
                num_queries=num_heads - 2 * num_groups,
                num_groups=num_groups,
                capacity=capacity,
                head_dim=head_dim,
                scaling=self.scaling,
                epsilon=self.epsilon,
            )
        )


class Places:
    """Where the tokens of whole sequences stand, that lie side by side: nothing between them, no padding."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.num_rows, self.longest = len(lengths), max(lengths)
        self.row = torch.arange(self.num_rows).repeat_interleave(torch.tensor(lengths))
        """[n] int64, the number of the sequence."""
        self.position = torch.cat([torch.arange(length) for length in lengths])
        """[n] int64, within it."""
