"""The functions of kernels.c as functions of tensors; called by the decoder for CPUs, and by the learner.

Shapes: n or N rows, V words, H width, A attention heads in G groups of keys and values, D width of a head, C
positions, F width of the layer in between. All tensors are contiguous, on the CPU, and of the dtype of the
kernels.
"""

import ctypes
import logging
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from antiphon.native.attention import Common, Places
from antiphon.native.build import NotBuilt, library

_log = logging.getLogger(__name__)

_Pointer, _Long, _Float = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


_ARGUMENTS: dict[str, list[Any]] = {
    "add_norm": [_Pointer, _Pointer, _Pointer, _Float, _Pointer, _Long, _Long],
    "gated": [_Pointer, _Pointer, _Long, _Long],
    "attend": [_Pointer] * 5,
    "read": [_Pointer] * 6,
    "draw": [_Pointer] * 5 + [_Long, _Long],
    "token_logprobs": [_Pointer, _Float, *[_Pointer] * 4, _Long, _Long],
    "token_logprobs_back": [_Pointer, _Float, *[_Pointer] * 6, _Long, _Long],
}
"""Of the functions of kernels.c, without the type behind their names."""


class Kernels:
    """The kernels for one dtype."""

    _add_norm: Any
    _gated: Any
    _attend: Any
    _read: Any
    _draw: Any
    _token_logprobs: Any
    _token_logprobs_back: Any

    dtypes: ClassVar[dict[torch.dtype, str]] = {torch.float32: "float", torch.bfloat16: "bfloat16"}

    def __init__(self, dtype: torch.dtype) -> None:
        """
        Raises:
            NotBuilt: there is no library for this machine.
            KeyError: the kernels know no such dtype.
        """
        self.dtype = dtype
        suffix, functions = self.dtypes[dtype], library()
        for name, arguments in _ARGUMENTS.items():
            function = functions[f"{name}_{suffix}"]
            function.argtypes, function.restype = arguments, None
            setattr(self, f"_{name}", function)

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

    def attend(self, heads: Tensor, common: Common, position: Tensor, keys: Tensor, values: Tensor) -> Tensor:
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

    def read(
        self, heads: Tensor, common: Common, places: Places, num_groups: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `attend`, for all tokens of B sequences, the longest of T, that begin here.

        Args:
            heads: [n, A + 2G, D], n tokens in all.
            common: See `attend`.
            places: Where each of them stands.
            num_groups: G.

        Returns:
            What the queries saw [n, A·D], keys and values [B, G, T, D], zeros behind what is shorter.
        """
        self._check(heads)
        num_heads, head_dim = heads.shape[1:]
        if len(places.row) != len(heads) or places.longest > len(common.cosine):
            raise ValueError(f"{len(heads)} tokens are not at these places, or there are too few turns")
        seen = heads.new_empty(len(heads), (num_heads - 2 * num_groups) * head_dim)
        keys, values = heads.new_zeros(2, places.num_rows, num_groups, places.longest, head_dim)
        call = common.struct(heads.shape, num_groups, places.longest, places.position)
        pointers = (x.data_ptr() for x in (places.row, heads, keys, values, seen))
        self._read(call, *pointers)
        return seen, keys, values

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

    def token_logprobs(
        self, logits: Tensor, token_ids: Tensor, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of z = scale · logits [N, V] and words [N] int64 in [0, V): the log-probability of each word, the
        entropy of its distribution, and log Σ exp z; [N] float32 each."""
        self._check(logits)
        if token_ids.shape != logits.shape[:1] or token_ids.dtype != torch.int64:
            raise ValueError(f"logits {list(logits.shape)} need one word each, got {list(token_ids.shape)}")
        if len(logits) and not 0 <= int(token_ids.min()) <= int(token_ids.max()) < logits.shape[1]:
            raise IndexError(f"a word is not in [0, {logits.shape[1]})")
        words = token_ids.contiguous()
        logprob, entropy, log_norm = torch.empty(3, len(logits))
        pointers = (x.data_ptr() for x in (words, logprob, entropy, log_norm))
        self._token_logprobs(logits.data_ptr(), scale, *pointers, *logits.shape)
        return logprob, entropy, log_norm

    def token_logprobs_back(
        self,
        logits: Tensor,
        token_ids: Tensor,
        scale: float,
        entropy: Tensor,
        log_norm: Tensor,
        by_logprob: Tensor,
        by_entropy: Tensor,
    ) -> Tensor:
        """The gradient [N, V] with respect to the logits, from those [N] with respect to log-probability and
        entropy."""
        self._check(logits)
        columns = [x.contiguous() for x in (token_ids, entropy, log_norm, by_logprob, by_entropy)]
        if any(len(x) != len(logits) for x in columns) or any(x.dtype != torch.float32 for x in columns[1:]):
            raise ValueError("entropies, norms and gradients are one float32 for each row of the logits")
        grad = torch.empty_like(logits)
        pointers = (x.data_ptr() for x in (*columns, grad))
        self._token_logprobs_back(logits.data_ptr(), scale, *pointers, *logits.shape)
        return grad

    def _check(self, *tensors: Tensor) -> None:
        for tensor in tensors:
            if tensor.dtype != self.dtype or not tensor.is_contiguous() or tensor.device.type != "cpu":
                raise ValueError(
                    f"a tensor {list(tensor.shape)} of {tensor.dtype} on {tensor.device}: the kernels take "
                    f"contiguous tensors of {self.dtype} on the CPU"
                )


@cache
def kernels_for(dtype: torch.dtype, device: str) -> Kernels | None:
    """The kernels for tensors of this kind; None, with one warning for a CPU, where there are none."""
    if device != "cpu" or dtype not in Kernels.dtypes:
        return None
    try:
        return Kernels(dtype)
    except NotBuilt as why:
        _log.warning("computing on this CPU is slower than it could be: %s", why)
        return None
