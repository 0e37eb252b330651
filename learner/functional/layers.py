"""Norms and gates with their gradients in one pass each, on a CPU by native kernels.

Called by learner/cpu_layers.py; knows nothing of models. The kernels are in antiphon/native/layers_body.h.
"""

from typing import Any

import torch
from torch import Tensor

from antiphon.native.layers import LayerKernels


def rms_norm(x: Tensor, weight: Tensor, epsilon: float, kernels: LayerKernels) -> Tensor:
    """x / sqrt(mean(x²) + ε) · weight over the last axis (1910.07467). [..., H], [H] -> [..., H], float32."""
    normed: Tensor = _Norm.apply(x, weight, epsilon, kernels)
    return normed


def gated(gate: Tensor, up: Tensor, kernels: LayerKernels) -> Tensor:
    """silu(gate) · up, of equal shapes in float32 or bfloat16 (2002.05202)."""
    product: Tensor = _Gate.apply(gate, up, kernels)
    return product


class _Norm(torch.autograd.Function):
    """With y = s x w and s = 1 / rms(x): dx = s (w dy − x s² mean(w dy x)), dw = Σ s x dy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float, kernels: LayerKernels) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        normed, inverse = kernels.norm(rows, weight, epsilon)
        ctx.kernels = kernels
        ctx.save_for_backward(rows, weight, inverse)
        return normed.view(x.shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, by_normed: Tensor) -> tuple[Tensor, Tensor, None, None]:
        rows, weight, inverse = ctx.saved_tensors
        by_rows = by_normed.reshape(rows.shape).contiguous()
        by_x, by_weight = ctx.kernels.norm_back(rows, weight, inverse, by_rows)
        return by_x.view(by_normed.shape), by_weight, None, None


class _Gate(torch.autograd.Function):
    """With s = sigmoid(g): d(silu(g) u)/du = g s and d(silu(g) u)/dg = u s (1 + g (1 − s))."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, kernels: LayerKernels) -> Tensor:
        gate, up = gate.contiguous(), up.contiguous()
        ctx.kernels = kernels
        ctx.save_for_backward(gate, up)
        return kernels.gate(gate, up)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, by_product: Tensor) -> tuple[Tensor, Tensor, None]:
        by_gate, by_up = ctx.kernels.gate_back(*ctx.saved_tensors, by_product.contiguous())
        return by_gate, by_up, None
