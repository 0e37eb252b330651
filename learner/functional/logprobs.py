"""Log-probabilities and entropies of taken tokens from logits: few passes over them, little memory.

On a CPU by native kernels where they can be built (antiphon/native/), else by torch.
"""

from typing import Any

import torch
from torch import Tensor

from antiphon.native.kernels import kernels_for


class _TokenLogprobs(torch.autograd.Function):
    """See `token_logprobs`. With p = softmax(z), H its entropy and a the taken token:

    ∂ log p_a / ∂z = onehot(a) − p        ∂H / ∂z = −p (log p + H)
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, token_ids: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        ctx.scale, ctx.kernels = scale, kernels_for(logits.dtype, logits.device.type)
        if ctx.kernels is not None:
            logits = logits.contiguous()
            logprob, entropy, log_norm = ctx.kernels.token_logprobs(logits, token_ids, scale)
            ctx.save_for_backward(logits, token_ids, log_norm, entropy)
            return logprob, entropy
        scaled = _scaled(logits, scale)
        log_norm = scaled.logsumexp(dim=1, keepdim=True)
        logprob = scaled.gather(1, token_ids[:, None]) - log_norm
        probs = torch.exp(scaled - log_norm)
        entropy = log_norm.squeeze(1) - torch.linalg.vecdot(probs, scaled)
        ctx.save_for_backward(logits, token_ids, log_norm, entropy)
        return logprob.squeeze(1), entropy

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_logprob: Tensor, grad_entropy: Tensor) -> tuple[Tensor, None, None]:
        logits, token_ids, log_norm, entropy = ctx.saved_tensors
        if ctx.kernels is not None:
            grads = grad_logprob.float(), grad_entropy.float()
            columns = token_ids, ctx.scale, entropy, log_norm, *grads
            return ctx.kernels.token_logprobs_back(logits, *columns), None, None
        log_probs = _scaled(logits, ctx.scale) - log_norm
        grad = log_probs.exp()
        if bool(grad_entropy.any()):
            towards_entropy = log_probs.add_(entropy[:, None]).mul_(grad_entropy[:, None])
            grad = grad.mul_(towards_entropy.add_(grad_logprob[:, None]).neg_())
        else:
            grad = grad.mul_(-grad_logprob[:, None])
        grad.scatter_add_(1, token_ids[:, None], grad_logprob[:, None])
        return grad.mul_(ctx.scale).to(logits.dtype), None, None


def token_logprobs(logits: Tensor, token_ids: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Log-probability of each taken token, and the entropy of the distribution it was taken from.

    Args:
        logits: [N, V] before scaling; half precision is computed in fp32.
        token_ids: [N] in [0, V).
        scale: 1 / temperature, times whatever the model multiplies its logits by.

    Returns:
        logprob [N] and entropy [N] in nats.

    Raises:
        ValueError: other shapes; `gather` alone would truncate silently.
    """
    if logits.dim() != 2 or token_ids.shape != logits.shape[:1]:
        shapes = tuple(logits.shape), tuple(token_ids.shape)
        raise ValueError(f"want logits [N, V] and token_ids [N], got {shapes[0]} and {shapes[1]}")
    result: tuple[Tensor, Tensor] = _TokenLogprobs.apply(logits, token_ids, scale)
    return result


def _scaled(logits: Tensor, scale: float) -> Tensor:
    """At least fp32; the logits themselves where there is nothing to do."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return logits if scale == 1.0 else logits * scale
