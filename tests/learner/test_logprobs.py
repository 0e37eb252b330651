import pytest
import torch
from torch import Tensor

from learner.functional.logprobs import token_logprobs


def test_logprob_and_entropy_by_hand() -> None:
    # softmax([0, ln 3]) = [¼, ¾]; H = ¼ ln 4 + ¾ ln 4/3
    logits = torch.tensor([[1.0, 3.0]]).log()
    logprob, entropy = token_logprobs(logits, torch.tensor([1]))
    assert logprob.item() == pytest.approx(-0.287682)
    assert entropy.item() == pytest.approx(0.25 * 1.386294 + 0.75 * 0.287682)


def test_the_scale_is_applied_before_the_softmax() -> None:
    """S1: temperature 0.5 doubles the logits, for the entropy too."""
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    token_ids = torch.tensor([0, 1, 2, 3, 4])
    scaled = token_logprobs(logits, token_ids, scale=2.0)
    for a, b in zip(scaled, _plainly(logits * 2.0, token_ids), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("scale", [1.0, 0.7])
def test_gradients_are_those_of_the_definition(scale: float) -> None:
    logits = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    token_ids = torch.tensor([0, 5, 2, 2])
    assert torch.autograd.gradcheck(lambda z: token_logprobs(z, token_ids, scale), (logits,))


def test_gradients_of_both_results_add_up() -> None:
    logits = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    token_ids = torch.tensor([0, 5, 2, 2])
    found = []
    for compute in (token_logprobs, _plainly):
        logprob, entropy = compute(logits, token_ids)
        found.append(torch.autograd.grad((2.0 * logprob - 3.0 * entropy).sum(), logits)[0])
    torch.testing.assert_close(*found)


def test_without_a_gradient_of_the_entropy_that_of_the_logprob_is_the_same() -> None:
    logits = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    token_ids = torch.tensor([0, 5, 2, 2])
    (ours,) = torch.autograd.grad(token_logprobs(logits, token_ids, 0.5)[0].sum(), logits)
    (plain,) = torch.autograd.grad(_plainly(logits * 0.5, token_ids)[0].sum(), logits)
    torch.testing.assert_close(ours, plain)


def test_half_precision_logits_are_computed_in_fp32() -> None:
    logits = torch.randn(3, 5).bfloat16()
    logprob, entropy = token_logprobs(logits, torch.tensor([0, 1, 2]))
    assert logprob.dtype == entropy.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_words", [3, 256, 700])
def test_values_and_gradients_in_the_dtypes_of_training_are_those_of_the_plain_formula(
    dtype: torch.dtype, num_words: int
) -> None:
    """One word of each row is impossible. Mutations: H left out of the slope; the scale left out of it."""
    torch.manual_seed(0)
    logits = (torch.randn(40, num_words) * 3).to(dtype)
    logits[:, 1] = -1e4
    token_ids = torch.randint(2, num_words, (40,))
    weights = torch.randn(2, 40)
    found = []
    for compute, start in ((token_logprobs, logits), (_plainly, logits.double())):
        own = start.clone().requires_grad_()
        scaled = (own, token_ids, 0.7) if compute is token_logprobs else (own * 0.7, token_ids)
        logprob, entropy = compute(*scaled)
        (grad,) = torch.autograd.grad((logprob * weights[0] + entropy * weights[1]).sum(), own)
        found.append((logprob, entropy, grad))
    (logprob, entropy, grad), plain = found
    torch.testing.assert_close(logprob.double(), plain[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(entropy.double(), plain[1], atol=1e-5, rtol=1e-5)
    bound = 1e-6 if dtype == torch.float32 else 2**-8
    torch.testing.assert_close(grad.double(), plain[2], atol=bound, rtol=2 * torch.finfo(dtype).eps)


def test_a_token_outside_the_vocabulary_is_refused() -> None:
    """C would read what lies beside. Mutation: leave the check away."""
    for token in (-1, 5):
        with pytest.raises((IndexError, RuntimeError)):
            token_logprobs(torch.zeros(1, 5), torch.tensor([token]))


def test_more_tokens_than_logits_are_refused() -> None:
    """S2: gather would silently take the first rows."""
    with pytest.raises(ValueError, match="token_ids"):
        token_logprobs(torch.zeros(5, 3), torch.zeros(4, dtype=torch.int64))


def _plainly(logits: Tensor, token_ids: Tensor) -> tuple[Tensor, Tensor]:
    log_probs = logits.log_softmax(dim=1)
    entropy = -(log_probs.exp() * log_probs).sum(dim=1)
    return log_probs.gather(1, token_ids[:, None]).squeeze(1), entropy
