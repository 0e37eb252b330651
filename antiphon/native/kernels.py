"""The functions of decode.c as functions of tensors; called by the decoder for CPUs.

Shapes: n rows, H width, A attention heads in G groups of keys and values, D width of a head, C positions,
F width of the layer in between. All tensors are contiguous, on the CPU, and of the dtype of the kernels.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from antiphon.native.build import library

_Pointer, _Long, _Float = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


class _Attention(ctypes.Structure):
    """struct attention of decode.c."""

    _fields_: ClassVar[Sequence[tuple[str, type]]] = [
        *((name, _Pointer) for name in ("cosine", "sine", "position", "query_norm", "key_norm")),
        *((name, _Long) for name in ("num_rows", "num_queries", "num_groups", "capacity")),
        ("head_dim", ctypes.c_int32),
        ("scaling", _Float),
        ("epsilon", _Float),
    ]


class Kernels:
    """What a decode step needs beside its products, for one dtype."""

    dtypes: ClassVar[dict[torch.dtype, str]] = {torch.float32: "float", torch.bfloat16: "bfloat16"}

    def __init__(self, dtype: torch.dtype) -> None:
        """
        Raises:
            NotBuilt: there is no library for this machine.
            KeyError: the kernels know no such dtype.
        """
        self.dtype = dtype
        suffix, functions = self.dtypes[dtype], library()
        self._add_norm = functions[f"add_norm_{suffix}"]
        self._add_norm.argtypes = [_Pointer, _Pointer, _Pointer, _Float, _Pointer, _Long, _Long]
        self._gated = functions[f"gated_{suffix}"]
        self._gated.argtypes = [_Pointer, _Pointer, _Long, _Long]
        self._attend = functions[f"attend_{suffix}"]
        self._spread = functions[f"spread_{suffix}"]
        self._attend.argtypes = self._spread.argtypes = [_Pointer] * 5
        self._draw = functions[f"draw_{suffix}"]
        self._draw.argtypes = [_Pointer] * 5 + [_Long, _Long]
        for function in (self._add_norm, self._gated, self._attend, self._spread, self._draw):
            function.restype = None

    def add_norm(self, hidden: Tensor, delta: Tensor | None, weight: Tensor, epsilon: float) -> Tensor:
        """hidden += delta, in place; returns hidden / sqrt(mean(hidden²) + ε) · weight, [n, H] as all but
        weight [H]."""
        self._check(hidden, weight, *(() if delta is None else (delta,)))
        num_rows, width = hidden.shape
        if weight.shape != (width,) or (delta is not None and delta.shape != hidden.shape):
            raise ValueError(
                f"hidden {list(hidden.shape)}, weight {list(weight.shape)} and delta do not match"
            )
        normed = torch.empty_like(hidden)
        what = None if delta is None else delta.data_ptr()
        self._add_norm(
            hidden.data_ptr(), what, weight.data_ptr(), epsilon, normed.data_ptr(), num_rows, width
        )
        return normed

    def gated(self, gate_up: Tensor) -> Tensor:
        """silu(gate) · up [n, F] of [n, 2F], which holds the gates first."""
        self._check(gate_up)
        num_rows, width = gate_up.shape[0], gate_up.shape[1] // 2
        product = gate_up.new_empty(num_rows, width)
        self._gated(gate_up.data_ptr(), product.data_ptr(), num_rows, width)
        return product

    def attend(
        self, heads: Tensor, common: "Common", position: Tensor, keys: Tensor, values: Tensor
    ) -> Tensor:
        """Rotates queries and keys, puts keys and values into the cache, and looks at what it holds.

        Args:
            heads: [n, A + 2G, D]: queries, keys, values.
            common: What the attention of the layer has beside its heads.
            position: [n] int64, below C and the length of the turns; row i writes there and reads up to it.
            keys: [N, G, C, D], N at least n; changed in place, as are the values.
            values: Likewise.

        Returns:
            What the queries saw, [n, A·D].
        """
        num_rows, num_heads, head_dim = heads.shape
        num_groups, capacity = keys.shape[1:3]
        self._check(heads, keys, values)
        if keys.shape != values.shape or keys.shape[3] != head_dim or len(keys) < num_rows:
            raise ValueError(f"keys {list(keys.shape)} and values do not take {list(heads.shape)}")
        seen = heads.new_empty(num_rows, (num_heads - 2 * num_groups) * head_dim)
        call = common.struct(heads.shape, num_groups, capacity, position)
        self._attend(call, heads.data_ptr(), keys.data_ptr(), values.data_ptr(), seen.data_ptr())
        return seen

    def spread(
        self, heads: Tensor, common: "Common", num_groups: int, length: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rotates the queries and keys of B whole sequences of T tokens, and sorts them by head.

        Args:
            heads: [B·T, A + 2G, D].
            common: See `attend`.
            num_groups: G.
            length: T.

        Returns:
            Queries [B, A, T, D], keys and values [B, G, T, D].
        """
        self._check(heads)
        num_rows, (num_heads, head_dim) = len(heads) // length, heads.shape[1:]
        if num_rows * length != len(heads) or length > len(common.cosine):
            raise ValueError(f"{len(heads)} tokens are no sequences of {length}, or there are too few turns")
        queries = heads.new_empty(num_rows, num_heads - 2 * num_groups, length, head_dim)
        keys, values = heads.new_empty(2, num_rows, num_groups, length, head_dim)
        shape = torch.Size((num_rows, num_heads, head_dim))
        call = common.struct(shape, num_groups, length, None)
        self._spread(call, heads.data_ptr(), queries.data_ptr(), keys.data_ptr(), values.data_ptr())
        return queries, keys, values

    def draw(self, logits: Tensor, temperature: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """A word of softmax(logits / temperature) by the inverse of its cumulative distribution.

        Args:
            logits: [N, V].
            temperature: [N] float32, above 0.
            uniform: [N] float64 in [0, 1).

        Returns:
            Token ids [N] int64 and their log-probabilities [N] float32 (NaN where the row is not finite).
        """
        self._check(logits)
        num_rows, num_words = logits.shape
        columns = (temperature, torch.float32), (uniform, torch.float64)
        is_one_each = (x.shape == (num_rows,) and x.dtype == dtype for x, dtype in columns)
        if not all(is_one_each) or not (temperature.is_contiguous() and uniform.is_contiguous()):
            raise ValueError(f"logits {list(logits.shape)} need one temperature and one number in each row")
        token = torch.empty(num_rows, dtype=torch.int64)
        logprob = torch.empty(num_rows)
        pointers = (x.data_ptr() for x in (logits, temperature, uniform, token, logprob))
        self._draw(*pointers, num_rows, num_words)
        return token, logprob

    def _check(self, *tensors: Tensor) -> None:
        for tensor in tensors:
            if tensor.dtype != self.dtype or not tensor.is_contiguous() or tensor.device.type != "cpu":
                raise ValueError(
                    f"a tensor {list(tensor.shape)} of {tensor.dtype} on {tensor.device}: the kernels take "
                    f"contiguous tensors of {self.dtype} on the CPU"
                )


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

    def struct(self, shape: torch.Size, num_groups: int, capacity: int, position: Tensor | None) -> Any:
        """A pointer to the `struct attention` of a call with heads of this shape."""
        num_rows, num_heads, head_dim = shape
        query_norm, key_norm = (None, None) if self.norms is None else (n.data_ptr() for n in self.norms)
        return ctypes.byref(
            _Attention(
                cosine=self.cosine.data_ptr(),
                sine=self.sine.data_ptr(),
                position=None if position is None else position.data_ptr(),
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
