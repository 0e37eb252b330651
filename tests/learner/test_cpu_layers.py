"""Norms and gates by native kernels against those of transformers, forward and backward."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from antiphon.native.layers import NORM_ROWS, LayerKernels, layer_kernels
from learner.cpu_layers import fuse_layers
from learner.functional.layers import gated, rms_norm
from tests.learner.fakes_models import tiny_gpt2, tiny_llama, tiny_qwen2


def kernels() -> LayerKernels:
    found = layer_kernels()
    if found is None:
        pytest.skip("no native kernels here")
    return found


def test_a_norm_and_its_gradient_by_hand() -> None:
    """x = (3, 4): mean square 12.5, s = 1 / √12.5. With w = (1, 2) and dy = (1, 0): mean(w dy x) = 1.5, and
    dx = s (1 − 3 · 1.5 / 12.5, −4 · 1.5 / 12.5) = s (0.64, −0.48), dw = s (3, 0).

    Mutations: the mean without the weight; dw without s.
    """
    x = torch.tensor([[3.0, 4.0]], requires_grad=True)
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    normed = rms_norm(x, weight, 0.0, kernels())
    normed[0, 0].backward()
    s = 12.5**-0.5
    torch.testing.assert_close(normed, torch.tensor([[3 * s, 8 * s]]))
    torch.testing.assert_close(x.grad, torch.tensor([[0.64 * s, -0.48 * s]]))
    torch.testing.assert_close(weight.grad, torch.tensor([3 * s, 0.0]))


@pytest.mark.parametrize("num_rows", [1, NORM_ROWS, 3 * NORM_ROWS + 1])
def test_norms_of_many_rows_are_those_of_the_formula(num_rows: int) -> None:
    """Parts of a weight's gradient are whole, last and alone. Mutation: forget the last part."""
    torch.manual_seed(0)
    x, by = torch.randn(2, num_rows, 3, 77)[:, :, ::2]
    weight = torch.rand(77)
    found, wanted = [], []
    for into, norm in (
        (found, lambda x, w: rms_norm(x, w, 1e-6, kernels())),
        (wanted, lambda x, w: x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * w),
    ):
        dtype = torch.float32 if into is found else torch.float64
        own = [t.to(dtype, copy=True).requires_grad_() for t in (x, weight)]
        normed = norm(*own)
        (normed * by).sum().backward()
        into += [normed.double(), *(t.grad.double() for t in own)]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * float(other.detach().abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gate_and_its_gradients_are_those_of_silu(dtype: torch.dtype) -> None:
    """One thread and several; far out it is shut or open. Mutations: gate and up exchanged; silu's slope as
    its sigmoid."""
    torch.manual_seed(0)
    gate, up, by = (torch.randn(3, 200, 77) * 10).to(dtype)
    gate[0, :2] = torch.tensor([-1e4, 1e4])
    own = [t.clone().requires_grad_() for t in (gate, up)]
    product = gated(*own, kernels())
    product.backward(by)
    exact = [t.double().requires_grad_() for t in (gate, up)]
    wanted = functional.silu(exact[0]) * exact[1]
    wanted.backward(by.double())
    rtol = 4 * torch.finfo(dtype).eps
    pairs = [(product, wanted), *((one.grad, other.grad) for one, other in zip(own, exact, strict=True))]
    for one, other in pairs:
        assert one.dtype == dtype
        # Gradients are products of two numbers up to ±40 and a slope that float32 knows to 1e-6.
        torch.testing.assert_close(one.double(), other, rtol=rtol, atol=1e-3)


@pytest.mark.parametrize(("make", "num"), [(tiny_llama, 7), (tiny_qwen2, 7), (tiny_gpt2, 0)])
def test_a_model_says_the_same_with_the_same_gradients(
    make: Callable[..., PreTrainedModel], num: int
) -> None:
    """Two layers: five norms and two gates. A copy of the model computes by its own parameters."""
    kernels()
    plain, model, ids = make().eval(), make().eval(), torch.arange(10)[None]
    assert fuse_layers(model) == num
    copied = deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    found = []
    for each in (copied, plain):
        logits = each(input_ids=ids, use_cache=False).logits
        logits.log_softmax(-1)[0, :, 3].sum().backward()
        found.append([logits, *(p.grad for p in each.parameters())])
    assert list(copied.state_dict()) == list(plain.state_dict())
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_other_precisions_and_other_classes_stay_as_they_are() -> None:
    """Mutation: take every class whose name ends alike."""

    class MyRMSNorm(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    kernels()
    assert fuse_layers(MyRMSNorm()) == 0
    plain, model = tiny_llama(dtype=torch.float64), tiny_llama(dtype=torch.float64)
    fuse_layers(model)
    ids = torch.arange(10)[None]
    assert torch.equal(model(input_ids=ids).logits, plain(input_ids=ids).logits)


def test_what_does_not_match_is_refused() -> None:
    own = kernels()
    with pytest.raises(ValueError, match=r"want \[4\] of torch.float32"):
        own.norm(torch.ones(2, 4), torch.ones(5), 0.0)
    with pytest.raises(ValueError, match=r"want \[2, 4\] of torch.float32"):
        own.gate(torch.ones(2, 4), torch.ones(2, 4).double())
