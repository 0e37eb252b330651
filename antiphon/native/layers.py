"""Norms and gates of a layer that learns, by layers_body.h; called by learner/functional/layers.py.

All tensors are contiguous and on the CPU. What is no number, and what is far out, comes out as torch has it.
"""

import ctypes
import logging
from functools import cache
from typing import Any

import torch
from torch import Tensor

from antiphon.native.build import NotBuilt, library

_log = logging.getLogger(__name__)

NORM_ROWS = 64
"""Of layers_body.h."""

_Pointer, _Long, _Float = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_ARGUMENTS: dict[str, list[Any]] = {
    "norm_float": [_Pointer, _Pointer, _Float, _Pointer, _Pointer, _Long, _Long],
    "norm_back_float": [*[_Pointer] * 6, _Long, _Long],
    **{f"gate_{kind}": [*[_Pointer] * 3, _Long] for kind in ("float", "bfloat16")},
    **{f"gate_back_{kind}": [*[_Pointer] * 5, _Long] for kind in ("float", "bfloat16")},
}
_SUFFIX = {torch.float32: "float", torch.bfloat16: "bfloat16"}


class LayerKernels:
    """The functions of layers_body.h."""

    def __init__(self) -> None:
        """
        Raises:
            NotBuilt: there is no library for this machine.
        """
        self._functions = {}
        for name, arguments in _ARGUMENTS.items():
            function = library()[name]
            function.argtypes, function.restype = arguments, None
            self._functions[name] = function

    def norm(self, x: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        """x / sqrt(mean(x²) + ε) · weight, of x [N, H] and weight [H] float32; and the scales of x [N]."""
        _check(x, torch.float32)
        _check(weight, torch.float32, x.shape[1:])
        normed, inverse = torch.empty_like(x), x.new_empty(len(x))
        pointers = normed.data_ptr(), inverse.data_ptr()
        self._functions["norm_float"](x.data_ptr(), weight.data_ptr(), epsilon, *pointers, *x.shape)
        return normed, inverse

    def norm_back(
        self, x: Tensor, weight: Tensor, inverse: Tensor, by_normed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The gradients [N, H] and [H] with respect to x and weight, from that with respect to the result."""
        _check(by_normed, torch.float32, x.shape)
        by_x = torch.empty_like(x)
        by_weight = x.new_empty(-(-len(x) // NORM_ROWS), x.shape[1])
        tensors = x, weight, inverse, by_normed, by_x, by_weight
        self._functions["norm_back_float"](*(t.data_ptr() for t in tensors), *x.shape)
        return by_x, by_weight.sum(0)

    def gate(self, gate: Tensor, up: Tensor) -> Tensor:
        """silu(gate) · up, of equal shapes in float32 or bfloat16."""
        _check(gate, gate.dtype)
        _check(up, gate.dtype, gate.shape)
        product = torch.empty_like(gate)
        pointers = (x.data_ptr() for x in (gate, up, product))
        self._functions[f"gate_{_SUFFIX[gate.dtype]}"](*pointers, gate.numel())
        return product

    def gate_back(self, gate: Tensor, up: Tensor, by_product: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients with respect to gate and up, from that with respect to the product."""
        _check(by_product, gate.dtype, gate.shape)
        by_gate, by_up = torch.empty_like(gate), torch.empty_like(up)
        pointers = (x.data_ptr() for x in (gate, up, by_product, by_gate, by_up))
        self._functions[f"gate_back_{_SUFFIX[gate.dtype]}"](*pointers, gate.numel())
        return by_gate, by_up


def _check(x: Tensor, dtype: torch.dtype, shape: torch.Size | None = None) -> None:
    is_ours = x.dtype == dtype and dtype in _SUFFIX and x.device.type == "cpu" and x.is_contiguous()
    if not is_ours or x.shape != (x.shape if shape is None else shape):
        wanted = "" if shape is None else f"{list(shape)} "
        raise ValueError(
            f"want {wanted}of {dtype}, contiguous, got {list(x.shape)} of {x.dtype} on {x.device}"
        )


@cache
def layer_kernels() -> LayerKernels | None:
    """The kernels; None where there are none, which those of attention have said."""
    try:
        return LayerKernels()
    except NotBuilt:
        return None
