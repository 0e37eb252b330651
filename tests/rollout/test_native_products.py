"""Products of packed weights against the plain ones."""

import pytest
import torch
from torch import nn

from antiphon.native.products import Multiply, PanelLinear, fits, multiplier, packed

DTYPES = [torch.float32, torch.bfloat16]


def multiply_of(dtype: torch.dtype) -> Multiply:
    multiply = multiplier(dtype)
    if multiply is None:
        pytest.skip(f"this processor has no products of its own for {dtype}")
    return multiply


def layer_of(depth: int, width: int, dtype: torch.dtype, has_bias: bool = False) -> nn.Linear:
    torch.manual_seed(depth + width)
    return nn.Linear(depth, width, bias=has_bias).to(dtype).requires_grad_(False)


def bound(dtype: torch.dtype) -> float:
    """What is stored as bfloat16 is rounded once; sums are float32 in any order, of some hundred numbers."""
    return 2**-8 if dtype == torch.bfloat16 else 1e-5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_rows", [1, 7, 8, 17, 300])
@pytest.mark.parametrize("width", [5, 16, 48, 81, 96])
def test_a_product_is_that_of_the_layer(dtype: torch.dtype, num_rows: int, width: int) -> None:
    """Rows that fill no tile, more rows than pass at once, outputs that fill no panel and no vector, a depth
    that is no multiple of eight words.

    Mutations: skip the last panel; the height of a whole tile for the last; the rows of the first pass again.
    """
    multiply = multiply_of(dtype)
    for depth, has_bias in ((34, True), (64, False)):
        layer, x = layer_of(depth, width, dtype, has_bias), torch.randn(num_rows, depth).to(dtype)
        wanted = layer.float()(x.float())
        found = PanelLinear(layer.to(dtype), multiply)(x)
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), wanted, atol=1e-5, rtol=bound(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_is_multiplied_alike_in_any_company(dtype: torch.dtype) -> None:
    """To the last bit. Mutation: another order of the sum where there are few rows."""
    linear, x = PanelLinear(layer_of(70, 100, dtype), multiply_of(dtype)), torch.randn(270, 70).to(dtype)
    together = linear(x)
    for rows in (slice(0, 1), slice(3, 6), slice(255, 270)):
        assert torch.equal(linear(x[rows].clone()), together[rows])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [5, 50, 96])
def test_nothing_is_written_beside_the_product(dtype: torch.dtype, width: int) -> None:
    """Mutation: store whole vectors."""
    weight, x = layer_of(8, width, dtype).weight, torch.ones(3, 8, dtype=dtype)
    around = torch.full((3 * width + 128,), 7.0, dtype=dtype)
    inside, panels = around[64 : 64 + 3 * width], packed(weight)
    multiply_of(dtype)(x.data_ptr(), panels.data_ptr(), None, inside.data_ptr(), 3, 8, width)
    assert bool((around[:64] == 7).all())
    assert bool((around[64 + 3 * width :] == 7).all())
    torch.testing.assert_close(inside.view(3, width), x @ weight.t(), atol=1e-2, rtol=1e-2)


def test_panels_hold_48_outputs_side_by_side_and_zeros_behind_the_last() -> None:
    """50 outputs of 2 inputs: output 49 is the second of the second panel. Mutation: the inputs exchanged."""
    weight = torch.arange(100.0).view(50, 2)
    panels = packed(weight).view(torch.float32)
    assert panels.shape == (2, 2, 48)
    assert panels[0, 1, 3] == 7.0
    assert panels[1, :, 1].tolist() == [98.0, 99.0]
    assert bool((panels[1, :, 2:] == 0).all())


def test_a_changed_weight_is_packed_again_where_the_old_one_was() -> None:
    """Mutations: keep the panels; allocate new ones."""
    layer, x = layer_of(24, 40, torch.float32, has_bias=True), torch.randn(3, 24)
    linear = PanelLinear(layer, multiply_of(torch.float32))
    linear(x)
    where = linear.panels().data_ptr()
    layer.weight.zero_()
    linear.forget()
    assert torch.equal(linear(x), layer.bias.expand(3, -1))
    assert linear.panels().data_ptr() == where


def test_what_does_not_fit_is_refused_before_c_sees_it() -> None:
    """Mutation: leave out a check."""
    linear = PanelLinear(layer_of(6, 4, torch.float32), multiply_of(torch.float32))
    matrices = (
        torch.zeros(2, 6, dtype=torch.bfloat16),
        torch.zeros(6, 2).t(),
        torch.zeros(2, 6, device="meta"),
    )
    for wrong in (*matrices, torch.zeros(2, 5), torch.zeros(1, 2, 6)):
        with pytest.raises(ValueError, match=r"no contiguous \[n, 6\] of torch\.float32"):
            linear(wrong)


def test_inputs_that_are_no_whole_words_are_left_to_others() -> None:
    """Three bfloat16 are a word and a half."""
    assert fits(layer_of(3, 4, torch.float32))
    assert not fits(layer_of(3, 4, torch.bfloat16))
    assert fits(layer_of(4, 4, torch.bfloat16))
    assert multiplier(torch.float64) is None
