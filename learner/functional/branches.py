"""Attention over rows that hold a prompt and then its completions, without the pairs that see nothing of each
other. Called by the learner's attention (learner/attention.py); knows nothing of models and batches.

On a CPU in float32 by a native kernel where it can be built (antiphon/native/branches.h); else by torch, each
completion beside the keys of its prompt, where that is less than all pairs of a row.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from antiphon.native.branches import BranchKernels, branch_kernels


@dataclass(frozen=True, kw_only=True)
class Branches:
    """Which tokens of R rows of S are a prompt, and which a completion of it."""

    ends: Tensor
    """[R, K] int64, rising: where the prompt ends, and each completion; rows with fewer repeat the last."""
    length: int
    """S; what stands past the last end of a row is padding."""
    num_prompt: int
    """Tokens of the longest prompt."""
    num_completion: int
    """Tokens of the longest completion."""

    @property
    def saves(self) -> bool:
        """Whether completions filled up to the longest, beside prompts filled up likewise, have fewer pairs
        than rows have."""
        num_rows, num_parts = self.ends.shape
        num_keys = self.num_prompt + self.num_completion
        branched = self.num_prompt**2 + (num_parts - 1) * self.num_completion * num_keys
        return num_rows * branched < num_rows * self.length**2

    @cached_property
    def padded(self) -> "Padded":
        return _padded(self)


@dataclass(frozen=True, kw_only=True)
class Padded:
    """Where tokens lie that are taken apart, P the longest prompt, C = R (K − 1) completions of at most T."""

    prompt: Tensor
    """[R, P] flat index into R·S."""
    completion: Tensor
    """[C, T] likewise."""
    mask: Tensor
    """[C, 1, T, P + T] whether the token of a completion sees that of its prompt, or of itself."""
    back: Tensor
    """[R·S] flat index into the R·P tokens of prompts and then the C·T of completions; of padding, any."""


def branched_attention(
    queries: Tensor, keys: Tensor, values: Tensor, branches: Branches, scaling: float
) -> Tensor:
    """softmax(scaling · q kᵀ) v, where a token sees its prompt up to itself and its completion up to itself.

    Args:
        queries: [R, A, S, D].
        keys: [R, G, S, D], A a multiple of G; the values likewise.

    Returns:
        [R, S, A, D]; on padding whatever is finite.

    Raises:
        ValueError: other shapes.
    """
    shape = queries.shape
    fits = (
        keys.shape == values.shape == (shape[0], keys.shape[1], *shape[2:]) and shape[1] % keys.shape[1] == 0
    )
    if queries.dim() != 4 or not fits or shape[2] != branches.length or len(branches.ends) != shape[0]:
        shapes = tuple(shape), tuple(keys.shape), tuple(values.shape), tuple(branches.ends.shape)
        raise ValueError(f"queries, keys, values and ends {shapes} do not match rows of {branches.length}")
    kernels = native_kernels(queries)
    if kernels is None:
        return _by_torch(queries, keys, values, branches.padded, scaling)
    heads = [_with_whole_heads(x.float()) for x in (queries, keys, values)]
    seen: Tensor = _Native.apply(*heads, branches.ends, scaling, kernels)
    return seen.to(queries.dtype)


def native_kernels(queries: Tensor) -> BranchKernels | None:
    """The kernels, where there are any for heads like these."""
    is_ours = queries.device.type == "cpu" and queries.dtype in (torch.float32, torch.bfloat16)
    return branch_kernels() if is_ours else None


class _Native(torch.autograd.Function):
    """See `branched_attention`. With w the weights and o = w v what is seen:

    dv = wᵀ do        ds = w (do vᵀ − Σ do o)        dq = scaling · ds k        dk = scaling · dsᵀ q
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, ends: Tensor, scaling: float, kernels: BranchKernels
    ) -> Tensor:
        seen, log_norm = kernels.attend(q, k, v, ends, scaling)
        ctx.scaling, ctx.kernels = scaling, kernels
        ctx.save_for_backward(q, k, v, ends, seen, log_norm)
        return seen

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, by_seen: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, ends, seen, log_norm = ctx.saved_tensors
        own = _with_whole_heads(by_seen)
        grads = ctx.kernels.attend_back(q, k, v, ends, ctx.scaling, seen, log_norm, own)
        return *grads, None, None, None


def _with_whole_heads(x: Tensor) -> Tensor:
    """With the numbers of a head side by side."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _by_torch(queries: Tensor, keys: Tensor, values: Tensor, at: Padded, scaling: float) -> Tensor:
    share = queries.shape[1] // keys.shape[1]
    # [R·S, A, D] each: grouped heads with a mask have no fast kernel on GPUs.
    q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (queries, keys, values))
    k, v = (x if share == 1 else x.repeat_interleave(share, dim=1) for x in (k, v))
    kp, vp = k[at.prompt], v[at.prompt]
    parts = [_seen(q[at.prompt], kp, vp, None, scaling)]
    if len(at.completion):
        num = len(at.completion) // len(at.prompt)
        k, v = (
            torch.cat((prompt.repeat_interleave(num, dim=0), x[at.completion]), dim=1)
            for prompt, x in ((kp, k), (vp, v))
        )
        parts.append(_seen(q[at.completion], k, v, at.mask, scaling))
    return torch.cat(parts)[at.back].view(queries.transpose(1, 2).shape)


def _seen(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """Of sequences [N, T, A, D], causally where there is no mask: what each token sees, [N·T, A, D]."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    seen = functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling
    )
    return seen.transpose(1, 2).flatten(0, 1)


def _padded(branches: Branches) -> Padded:
    ends, device = branches.ends, branches.ends.device
    num_rows, num_parts = ends.shape
    row = torch.arange(num_rows, device=device)[:, None]
    column = torch.arange(branches.num_prompt, device=device)
    inside = torch.arange(branches.num_completion, device=device)
    start, prompt_end = ends[:, :-1].reshape(-1, 1), ends[:, :1].repeat_interleave(num_parts - 1, dim=0)
    # Past the end of a row stands some token of it, which nobody sees.
    completion = (start + inside).clamp(max=branches.length - 1)
    sees_prompt = (column < prompt_end)[:, None].expand(-1, len(inside), -1)
    sees_own = (inside <= inside[:, None]).expand(len(start), -1, -1)
    token = torch.arange(branches.length, device=device)
    part = (token[:, None] >= ends[:, None]).sum(-1).clamp(max=num_parts - 1)
    own_start = torch.cat((torch.zeros_like(ends[:, :1]), ends[:, :-1]), dim=1).gather(1, part)
    within = (token - own_start).clamp(max=max(branches.num_completion, 1) - 1)
    in_completion = num_rows * branches.num_prompt + (row * (num_parts - 1) + part - 1) * len(inside) + within
    back = torch.where(part == 0, row * branches.num_prompt + token, in_completion)
    num_apart = num_rows * branches.num_prompt + completion.numel()
    return Padded(
        prompt=row * branches.length + column.clamp(max=branches.length - 1),
        completion=completion + row.repeat_interleave(num_parts - 1, dim=0) * branches.length,
        mask=torch.cat((sees_prompt, sees_own), dim=2)[:, None],
        back=back.flatten().clamp(max=num_apart - 1),
    )
