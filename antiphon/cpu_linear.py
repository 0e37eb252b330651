"""Linear layers by oneDNN on CPUs, in full float32.

torch hands float32 matrices to MKL, which does not use AVX-512 on processors that are not Intel's. oneDNN
does: on one core of an AMD EPYC it runs the layers of a small model at 190-240 instead of 100 GFLOP/s,
forward and backward. Used by the torch engine; free for any holder of a model. Only rounding differs.
"""

from typing import Any

import torch
from torch import Tensor, nn

MIN_ROWS = 8
"""Below, packing the weight costs more than it saves."""


def speed_up(model: nn.Module) -> int:
    """Lets the plain linear layers of the model compute by oneDNN where they lie on a CPU in float32.

    Names, parameters and state of the model stay as they are.

    Returns:
        The number of layers changed; 0 where this build of torch lacks oneDNN.
    """
    if not is_available():
        return 0
    layers = [module for module in model.modules() if type(module) is nn.Linear]
    for layer in layers:
        layer.__class__ = CpuLinear
    return len(layers)


def is_available() -> bool:
    """Whether this build of torch has oneDNN's products."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x Wᵀ + b without gradient, for whoever holds the tensors in no layer of torch's."""
    if not (is_available() and _is_for_onednn(input, weight)):
        return nn.functional.linear(input, weight, bias)
    return _multiply(input, weight, bias)


class CpuLinear(nn.Linear):
    """A linear layer that is like any other, save for who multiplies."""

    def forward(self, input: Tensor) -> Tensor:
        if not _is_for_onednn(input, self.weight):
            return super().forward(input)
        if not torch.is_grad_enabled():
            return _multiply(input, self.weight, self.bias)
        output: Tensor = _Linear.apply(input, self.weight, self.bias)
        return output


class PackedLinear:
    """A linear layer of a model that only reads: its weight is kept a second time, in the order of oneDNN.

    The product is the same to the last bit for four rows and more, and takes less time for up to a few
    hundred. Whoever changes the weight calls `forget`.
    """

    def __init__(self, layer: nn.Linear) -> None:
        self._layer = layer
        self._packed: Tensor | None = None

    def forget(self) -> None:
        """The weight has changed; it is packed again when it is next used."""
        self._packed = None

    def __call__(self, input: Tensor) -> Tensor:
        if self._packed is None:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self._layer.weight.detach())
        return _multiply(input, self._packed, self._layer.bias)


def can_pack() -> bool:
    """Whether this build of torch has what packed layers need."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


class _Linear(torch.autograd.Function):
    """y = x Wᵀ + b, dx = dy W, dW = dyᵀ x, db = Σ dy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _multiply(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        rows_y, rows_x = dy.reshape(-1, dy.shape[-1]), x.reshape(-1, x.shape[-1])
        dx = _multiply(dy, weight.t(), None) if needs_x else None
        dw = _weight_gradient(rows_y, rows_x) if needs_weight else None
        return dx, dw, rows_y.sum(0) if needs_bias else None


def _weight_gradient(dy: Tensor, x: Tensor) -> Tensor:
    """dyᵀ x, [n, O], [n, I] -> [O, I]. The first factor is copied to lie row by row: it is the narrower."""
    if dy.shape[1] <= x.shape[1]:
        return _multiply(dy.t(), x.t(), None)
    return _multiply(x.t(), dy.t(), None).t().contiguous()


def _is_for_onednn(input: Tensor, weight: Tensor) -> bool:
    is_ours = input.dtype == weight.dtype == torch.float32 and input.device.type == "cpu"
    return is_ours and input.numel() >= MIN_ROWS * input.shape[-1] and not torch.is_autocast_enabled("cpu")


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product
