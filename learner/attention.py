"""Lets a model of transformers attend by branches; called by the policy model around each pass of a trunk.

The model keeps its own way of attending outside of that, and inside for whatever is not plain attention of
tokens to the tokens before them under the mask of the layout.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from learner.functional.branches import Branches, branched_attention, native_kernels

_NAME = "antiphon_branches"
_OTHER_MATHS = ("position_bias", "softcap", "cache")
"""Arguments that make it another attention than this one, if somebody gives them."""

_current: ContextVar[tuple[Branches, Tensor | None] | None] = ContextVar("branches", default=None)


@contextmanager
def attending_by(branches: Branches, mask: Tensor | None, trunk: Any) -> Iterator[None]:
    """In here, the attention of `trunk` under `mask` computes only pairs that see each other.

    Args:
        branches: Says the same as the mask, or as plain causality where there is none.
        trunk: A transformer, whose configuration is back as it was afterwards.
    """
    config = trunk.config.get_text_config()
    if config._attn_implementation != "sdpa":
        yield
        return
    token = _current.set((branches, mask))
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = "sdpa"
        _current.reset(token)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **others: Any,
) -> tuple[Tensor, Tensor | None]:
    """What transformers calls: heads [R, A or G, S, D] -> [R, S, A, D]."""
    current = _current.get()
    is_causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    is_plain = is_causal and dropout == 0.0 and query.shape[2:] == key.shape[2:] == value.shape[2:]
    is_plain = is_plain and all(others.get(name) is None for name in _OTHER_MATHS)
    if current is not None and is_plain:
        branches, mask = current
        pays = native_kernels(query) is not None or (mask is not None and branches.saves)
        if pays and attention_mask is mask and branches.length == query.shape[2]:
            scale = query.shape[-1] ** -0.5 if scaling is None else scaling
            return branched_attention(query, key, value, branches, scale), None
    by_torch: Any = sdpa_attention_forward
    seen: tuple[Tensor, None] = by_torch(
        *(module, query, key, value, attention_mask),
        dropout=dropout,
        scaling=scaling,
        is_causal=is_causal,
        **others,
    )
    return seen


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, sdpa_mask)
