"""Linear layers by the products of products.h, for whoever only reads a model; used by the decoder for CPUs.

Knows nothing of models. Where the processor or the library has no such products, `multiplier` says so and
others multiply.
"""

import ctypes
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from antiphon.native.build import NotBuilt, library
from antiphon.native.kernels import Kernels

PANEL = 48
"""As in products.h."""
WORD_BYTES = 4
"""Inputs are taken together until they are a word: one float32, or two bfloat16."""

_Pointer, _Long = ctypes.c_void_p, ctypes.c_int64
Multiply = Callable[..., None]


@cache
def multiplier(dtype: torch.dtype) -> Multiply | None:
    """The product for weights of this dtype; None where there is none, or another one is faster."""
    try:
        name = f"multiply_{Kernels.dtypes[dtype]}"
        function = getattr(library(), name, None)
    except (NotBuilt, KeyError):
        return None
    if function is None:
        return None
    function.argtypes, function.restype = [_Pointer] * 4 + [_Long] * 3, None
    multiply: Multiply = function
    return multiply


def fits(layer: nn.Linear) -> bool:
    """Whether the inputs of the layer are whole words."""
    return layer.in_features * layer.weight.element_size() % WORD_BYTES == 0


class PanelLinear:
    """A linear layer whose weight is kept a second time, in panels. A row is multiplied alike in any company.

    Whoever changes the weight calls `forget`.
    """

    def __init__(self, layer: nn.Linear, multiply: Multiply) -> None:
        """
        Args:
            layer: One that `fits`, contiguous on the CPU.
            multiply: Of its dtype.
        """
        self._layer, self._multiply = layer, multiply
        self._panels: Tensor | None = None
        self._is_packed = False

    def forget(self) -> None:
        """The weight has changed; it is packed again when it is next used."""
        self._is_packed = False

    def __call__(self, x: Tensor) -> Tensor:
        """x Wᵀ + b, [n, O] of [n, K].

        Raises:
            ValueError: x is no contiguous matrix of K columns on the CPU, of the weight's dtype.
        """
        weight, bias = self._layer.weight, self._layer.bias
        width, depth = weight.shape
        is_matrix = x.dim() == 2 and x.shape[1] == depth and x.is_contiguous()
        if not is_matrix or x.dtype != weight.dtype or x.device.type != "cpu":
            raise ValueError(
                f"{list(x.shape)} of {x.dtype} on {x.device} is no contiguous [n, {depth}] of {weight.dtype}"
            )
        product = x.new_empty(len(x), width)
        offset = None if bias is None else bias.data_ptr()
        pointers = x.data_ptr(), self.panels().data_ptr(), offset, product.data_ptr()
        self._multiply(*pointers, len(x), depth, width)
        return product

    def panels(self) -> Tensor:
        """The weight as `packed` has it, packed now if it has changed."""
        if self._panels is None or not self._is_packed:
            self._panels = packed(self._layer.weight.detach(), self._panels)
            self._is_packed = True
        return self._panels


def packed(weight: Tensor, panels: Tensor | None = None) -> Tensor:
    """The weight [O, K] in panels of 48 outputs: [⌈O / 48⌉, words of K, 48] words of int32, the last panel
    filled up with zeros; into `panels`, where they are there already."""
    words = weight.view(torch.int32)
    width, num_words = words.shape
    num_whole, left = divmod(width, PANEL)
    if panels is None:
        panels = words.new_zeros(num_whole + (left > 0), num_words, PANEL)
    panels[:num_whole] = words[: num_whole * PANEL].view(num_whole, PANEL, num_words).transpose(1, 2)
    if left:
        panels[num_whole, :, :left] = words[num_whole * PANEL :].t()
    return panels
