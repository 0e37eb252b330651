"""The policy as the learner sees it: a causal language model, and heads on its hidden states.

Hidden states are gathered at action positions before the unembedding, and the unembedding goes over them in
chunks: no tensor [B, T, vocabulary] ever exists. The model is always in eval mode: with dropout, log-probs
would differ from those of the sampler, and the ratio would not be 1 before the first step.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from antiphon.cpu_linear import speed_up
from antiphon.errors import UserError
from learner.attention import attending_by
from learner.batch import Batch
from learner.cpu_layers import fuse_layers
from learner.functional.logprobs import token_logprobs
from learner.heads import Head
from learner.layout import Layout, lay_out

Outputs = Mapping[str, Tensor]
"""Streams by name, [B, T] or [B], 0 where no action is: "logprob" and "entropy", and those of the heads."""

_CHUNK_BYTES = 64 * 2**20
"""Of fp32 logits at a time: little beside the activations, enough rows for a good matrix product."""
_SCALE = "antiphon_logit_scale"
_MASKED_ATTENTION = ("sdpa", "eager")
"""Attention implementations that take a mask over pairs, which sharing prompts needs."""


class PolicyModel(nn.Module):
    """Log-probs, entropies and heads at the action tokens of a batch.

    Example:
        >>> outputs = PolicyModel(lm, {"value": ValueHead(config, lm)}, temperature=1.0)(batch)
        >>> outputs["logprob"].shape == outputs["value"].shape == batch.token_ids.shape
        True
    """

    def __init__(
        self,
        lm: PreTrainedModel,
        heads: Mapping[str, Head] | None = None,
        *,
        temperature: float = 1.0,
        share_prompts: bool = True,
    ) -> None:
        """Wrap `lm`, not a copy of it.

        Args:
            temperature: what the sampler divides logits by; log-probs and entropies are those of its softmax.
            share_prompts: compute a prompt once for all its completions, where the attention allows it.

        Raises:
            UserError: the model's logits are not a multiple of unembedding(hidden states).
        """
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"log-probs need a positive temperature, got {temperature}")
        self.lm = lm.eval()
        self.heads = nn.ModuleDict(heads or {})
        self.scale = logit_scale(lm) / temperature
        self.share_prompts = share_prompts and takes_pair_masks(lm)
        speed_up(self)
        fuse_layers(self)

    def train(self, mode: bool = True) -> "PolicyModel":
        """Stays in eval mode whatever is asked."""
        return super().train(False)

    def forward(self, batch: Batch) -> Outputs:
        layout = lay_out(batch, self.share_prompts)
        hidden = _hidden(self.lm.base_model, layout)
        tokens = batch.token_ids[batch.action_mask]
        logprob, entropy = self._logprobs(hidden[layout.states], tokens)
        streams = {"logprob": logprob, "entropy": entropy}
        finals: dict[str, Tensor] = {}
        for head in self.heads.values():
            assert isinstance(head, Head)
            own = hidden if head.trunk is None else _hidden(head.trunk, layout)
            streams |= head(own[layout.states], tokens)
            finals |= head.final(own[layout.finals])
        return {name: _spread(x, batch.action_mask) for name, x in streams.items()} | finals

    def _logprobs(self, states: Tensor, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Of the tokens after these states, [N, H], [N] -> [N], [N]; more than one chunk is computed again in
        the backward pass instead of being kept."""
        size = max(1, _CHUNK_BYTES // (4 * self.lm.config.get_text_config().vocab_size))
        chunks = list(zip(states.split(size), token_ids.split(size), strict=True))
        if len(chunks) == 1 or not torch.is_grad_enabled():
            parts = [self._chunk(*chunk) for chunk in chunks]
        else:
            parts = [
                checkpoint(self._chunk, *c, use_reentrant=False, preserve_rng_state=False) for c in chunks
            ]
        logprob, entropy = zip(*parts, strict=True)
        return torch.cat(logprob), torch.cat(entropy)

    def _chunk(self, states: Tensor, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        return token_logprobs(self.lm.get_output_embeddings()(states), token_ids, self.scale)


def frozen_copy(lm: PreTrainedModel, temperature: float, share_prompts: bool) -> PolicyModel:
    """The model as it is now, without heads or gradients: what a policy is compared with."""
    copy = PolicyModel(deepcopy(lm), temperature=temperature, share_prompts=share_prompts)
    return copy.requires_grad_(False)


def in_training_precision(lm: PreTrainedModel) -> PreTrainedModel:
    """fp32 for what came in half precision: small steps vanish in bf16 weights. Others stay."""
    return lm.float() if lm.dtype in (torch.bfloat16, torch.float16) else lm


def logit_scale(lm: PreTrainedModel) -> float:
    """What the model multiplies unembedding(hidden states) by to get its logits, found by trying.

    Raises:
        UserError: they are no multiple of it (soft-capped logits, say), or there is no unembedding.
    """
    remembered: float | None = getattr(lm, _SCALE, None)
    if remembered is not None:
        return remembered
    token_ids = torch.arange(8, device=lm.device)[None] % lm.config.get_text_config().vocab_size
    unembedding = lm.get_output_embeddings()
    name = type(lm).__name__
    if unembedding is None:
        raise UserError(f"{name} has no unembedding", remedy="use a causal language model")
    with torch.no_grad():
        logits = lm(input_ids=token_ids, use_cache=False).logits.double()
        bare = unembedding(lm.base_model(input_ids=token_ids, use_cache=False).last_hidden_state).double()
    square = (bare * bare).sum()
    scale = float((logits * bare).sum() / square) if square > 0 else 1.0
    if not torch.allclose(logits, scale * bare, rtol=1e-2, atol=1e-3 * float(logits.abs().max())):
        raise UserError(
            f"the logits of {name} are not a multiple of unembedding(hidden states), so they cannot be "
            "computed at action positions alone",
            remedy="use a model without soft-capped logits",
        )
    # A scale of exactly 1 saves a pass over the logits and leaves them bitwise the model's own.
    return 1.0 if abs(scale - 1.0) < 1e-3 else scale


def remember_scale(lm: PreTrainedModel, scale: float) -> None:
    """Let `logit_scale` say this of the model and its copies: one without values cannot be tried."""
    setattr(lm, _SCALE, scale)


def takes_pair_masks(lm: PreTrainedModel) -> bool:
    """Whether a mask over pairs of tokens is all that decides who sees whom: full attention everywhere."""
    config = lm.config.get_text_config()
    layer_types = set(getattr(config, "layer_types", None) or ["full_attention"])
    is_full = layer_types == {"full_attention"} and not getattr(config, "use_sliding_window", False)
    has_window = getattr(config, "sliding_window", None) and not hasattr(config, "use_sliding_window")
    return is_full and not has_window and config._attn_implementation in _MASKED_ATTENTION


def _hidden(trunk: Any, layout: Layout) -> Tensor:
    """The last hidden states of all laid-out tokens. [R·S, H]"""
    mask = layout.mask
    if mask is not None and trunk.config._attn_implementation == "eager":
        dtype = next(trunk.parameters()).dtype
        mask = torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
    with attending_by(layout.branches, mask, trunk):
        states: Tensor = trunk(
            input_ids=layout.token_ids,
            position_ids=layout.position_ids,
            attention_mask=mask,
            use_cache=False,
        ).last_hidden_state
    return states.flatten(0, 1)


def _spread(x: Tensor, mask: Tensor) -> Tensor:
    """A number per action, [N], at its place in [B, T]; 0 elsewhere."""
    return x.new_zeros(mask.shape).masked_scatter(mask, x)
