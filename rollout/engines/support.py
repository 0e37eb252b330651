"""Which models the torch engine can play, found out from the model itself before anything is generated."""

import inspect

from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from antiphon.errors import UserError

ATTENTION = ("sdpa", "eager")
"""Implementations that honour a mask per row and position."""
REMEDY = "take a causal language model with full attention (Llama, Qwen2, GPT-2, ...) or the vllm engine"


def require_supported(model: PreTrainedModel) -> None:
    """
    Raises:
        UserError: a slot could not hold the state of the model, or the model takes no mask or positions.
    """
    kind = model.config.model_type
    taken = inspect.signature(model.forward).parameters
    if model.config.is_encoder_decoder:
        raise UserError(f"a model of type {kind!r} is no causal language model", remedy=REMEDY)
    lacking = [name for name in ("position_ids", "past_key_values", "logits_to_keep") if name not in taken]
    if lacking:
        raise UserError(f"a model of type {kind!r} does not take {', '.join(lacking)}", remedy=REMEDY)
    if model._is_stateful:
        raise UserError(
            f"a model of type {kind!r} keeps a recurrent state, no keys and values", remedy=REMEDY
        )
    layers = DynamicCache(config=model.config).layers
    others = sorted({type(layer).__name__ for layer in layers if type(layer) is not DynamicLayer})
    if others:
        raise UserError(
            f"a model of type {kind!r} needs {', '.join(others)}: it does not attend to all it has read",
            remedy=REMEDY,
        )
    if model.config._attn_implementation not in ATTENTION:
        raise UserError(
            f"the torch engine cannot use attn_implementation {model.config._attn_implementation!r}",
            remedy=f"use one of {', '.join(ATTENTION)}",
        )
