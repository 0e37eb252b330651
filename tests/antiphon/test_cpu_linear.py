import copy

import pytest
import torch
from torch import nn

from antiphon.cpu_linear import CpuLinear, linear, speed_up


def pair(bias: bool = True, num_outputs: int = 5) -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    plain = nn.Linear(6, num_outputs, bias=bias)
    fast = copy.deepcopy(plain)
    speed_up(fast)
    return plain, fast


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("num_outputs", [5, 7])
@pytest.mark.parametrize("shape", [(8, 6), (2, 7, 6), (1, 6), (0, 6)], ids=str)
def test_outputs_and_gradients_are_those_of_a_plain_layer(
    shape: tuple[int, ...], num_outputs: int, bias: bool
) -> None:
    """Narrower and wider than its input. Mutation: leave the gradient of a wide one transposed."""
    results = []
    for layer in pair(bias, num_outputs):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1), requires_grad=True)
        y = layer(x)
        y.square().sum().backward()
        results.append([y, x.grad, *(parameter.grad for parameter in layer.parameters())])
    for plain, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5)


def test_gradients_are_exact_for_inputs_that_are_views() -> None:
    for layer in pair():
        x = torch.randn(6, 9, generator=torch.Generator().manual_seed(1), requires_grad=True)
        layer(x.t()).sum().backward()
        # d sum(x Wᵀ + b) / dx = the column sums of W, for every row.
        expected = layer.weight.detach().sum(0)[:, None].expand(6, 9)
        torch.testing.assert_close(x.grad, expected, rtol=1e-5, atol=1e-6)


def test_frozen_weights_get_no_gradient() -> None:
    _, layer = pair()
    layer.requires_grad_(False)
    x = torch.randn(9, 6, requires_grad=True)
    layer(x).sum().backward()
    assert layer.weight.grad is None
    assert x.grad is not None


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_are_left_to_torch_bit_for_bit(dtype: torch.dtype) -> None:
    plain, fast = (layer.to(dtype) for layer in pair())
    x = torch.randn(16, 6, dtype=dtype)
    assert torch.equal(plain(x), fast(x))


def test_autocast_is_left_to_torch() -> None:
    _, layer = pair()
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(16, 6)).dtype == torch.bfloat16


def test_only_plain_linear_layers_change_and_names_stay() -> None:
    class Other(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), Other(2, 2))
    names = list(model.state_dict())
    assert speed_up(model) == 1
    assert [type(layer) for layer in model] == [CpuLinear, nn.ReLU, Other]
    assert list(model.state_dict()) == names
    assert speed_up(model) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_rows", [1, 9])
def test_tensors_without_a_layer_are_multiplied_as_a_layer_would(num_rows: int, dtype: torch.dtype) -> None:
    plain = pair()[0].to(dtype)
    x = torch.randn(num_rows, 6, generator=torch.Generator().manual_seed(1)).to(dtype)
    with torch.no_grad():
        torch.testing.assert_close(linear(x, plain.weight, plain.bias), plain(x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(linear(x, plain.weight, None), x @ plain.weight.t(), rtol=1e-5, atol=1e-5)
