"""Log-probabilities and entropies of taken tokens, without ever holding logits for all of them.

The unembedding is applied to a chunk of states at a time, and again in the backward pass.
"""

from typing import Any

import torch
from torch import Tensor

_CHUNK_BYTES = 64 * 2**20
"""Of fp32 logits: small enough to stay out of the way of the activations, large enough for a good matmul."""


class _TokenLogprobs(torch.autograd.Function):
    """See `token_logprobs`. With p = softmax(z), H its entropy and a the taken token:

    ∂ log p_a / ∂z = onehot(a) − p        ∂H / ∂z = −p (log p + H)
    """

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, token_ids: Tensor, scale: float
    ) -> tuple[Tensor, Tensor]:
        logprob, entropy = [], []
        matrix = weight.to(states.dtype)
        for rows in _chunks(len(states), weight):
            logits = _logits(states[rows], matrix, bias, scale)
            log_norm = logits.logsumexp(dim=1)
            logprob.append(logits.gather(1, token_ids[rows, None]).squeeze(1) - log_norm)
            probs = torch.exp(logits - log_norm[:, None])
            entropy.append(log_norm - torch.linalg.vecdot(probs, logits))
        ctx.save_for_backward(states, weight, bias, token_ids)
        ctx.scale = scale
        return torch.cat(logprob), torch.cat(entropy)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        states, weight, bias, token_ids = ctx.saved_tensors
        grad_states = torch.empty_like(states)
        grad_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        grad_bias = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        matrix = weight.to(states.dtype)
        for rows in _chunks(len(states), weight):
            grads = [g[rows] for g in gradients]
            grad_logits = _grad_logits(states[rows], matrix, bias, token_ids[rows], ctx.scale, *grads)
            grad_states[rows] = grad_logits @ matrix
            if grad_weight is not None:
                grad_weight += grad_logits.T @ states[rows]
            if grad_bias is not None:
                grad_bias += grad_logits.sum(dim=0)
        return grad_states, grad_weight, grad_bias, None, None


def token_logprobs(
    states: Tensor, weight: Tensor, bias: Tensor | None, token_ids: Tensor, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Log-probability of each taken token, and the entropy of the distribution it was taken from.

    Logits are (states @ weightᵀ + bias) · scale; everything after the matmul is at least fp32.

    Args:
        states: [N, H], the hidden states before the tokens.
        weight: [V, H] of the unembedding; `bias` [V] or None.
        token_ids: [N] in [0, V).
        scale: 1 / temperature, times whatever the model multiplies its logits by.

    Returns:
        logprob [N] and entropy [N] in nats.

    Raises:
        ValueError: shapes that do not belong together; `gather` alone would truncate silently.
    """
    if states.dim() != 2 or token_ids.shape != states.shape[:1] or weight.shape[1:] != states.shape[1:]:
        shapes = tuple(states.shape), tuple(weight.shape), tuple(token_ids.shape)
        raise ValueError(f"want states [N, H], weight [V, H], token_ids [N], got {shapes}")
    if len(states) == 0:
        return states.sum(dim=1), states.sum(dim=1)
    result: tuple[Tensor, Tensor] = _TokenLogprobs.apply(states, weight, bias, token_ids, scale)
    return result


def _chunks(num_rows: int, weight: Tensor) -> list[slice]:
    size = max(1, _CHUNK_BYTES // (4 * weight.shape[0]))
    return [slice(start, start + size) for start in range(0, num_rows, size)]


def _logits(states: Tensor, weight: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """[n, H] -> [n, V], at least fp32; the matmul runs in the precision of the states and the weight."""
    logits = states @ weight.T
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if bias is not None:
        logits = logits + bias
    return logits if scale == 1.0 else logits.mul_(scale)


def _grad_logits(
    states: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    token_ids: Tensor,
    scale: float,
    grad_logprob: Tensor,
    grad_entropy: Tensor,
) -> Tensor:
    """The gradient with respect to the logits before scaling. [n, V], in the precision of the states."""
    log_probs = _logits(states, weight, bias, scale)
    log_probs -= log_probs.logsumexp(dim=1, keepdim=True)
    probs = log_probs.exp()
    if bool(grad_entropy.any()):
        entropy = -torch.linalg.vecdot(probs, log_probs)
        factor = log_probs.add_(entropy[:, None]).mul_(-grad_entropy[:, None]).sub_(grad_logprob[:, None])
        grad = probs.mul_(factor)
    else:
        grad = probs.mul_(-grad_logprob[:, None])
    grad.scatter_add_(1, token_ids[:, None], grad_logprob[:, None])
    return grad.mul_(scale).to(states.dtype)
