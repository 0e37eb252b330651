"""Which models the torch engine can play, found out from the model itself before anything is generated."""

import inspect

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from antiphon.errors import UserError
from rollout.engines.fused import FusedDecoder
from rollout.engines.kv_cache import SlotCache
from rollout.engines.native_decoder import NativeDecoder
from rollout.engines.passes import Said, decode, read

ATTENTION = ("sdpa", "eager")
"""Implementations that honour a mask per row and position."""
GUIDE_REMEDY = "take another model, or an algorithm whose actors play the model alone (soft_q, ppo, ...)"
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


@torch.no_grad()
def require_same_answer(model: PreTrainedModel, fused: FusedDecoder | None = None) -> None:
    """Tries two short texts of different length, through slots and alone.

    There are architectures that take masks and positions and then go their own way (relative biases, or
    positions counted from the mask); they would generate fluently, with wrong log-probabilities.

    Raises:
        UserError: the answers differ by more than rounding.
    """
    texts = ((1, 0, 1, 1, 0), (0, 1))
    by_slots = _through_slots(model, texts, fused=fused)
    for text, answer in zip(texts, by_slots.logits, strict=True):
        alone = model(input_ids=torch.tensor([text], device=model.device), use_cache=False).logits[0, -1]
        difference = (answer.float().log_softmax(-1) - alone.float().log_softmax(-1)).abs().max()
        # Thousands of roundings, and no more than one nat where the dtype has few bits.
        bound = min(2**13 * torch.finfo(alone.dtype).eps, 1.0)
        if bool(alone.isfinite().all()) and not difference <= bound:
            raise UserError(
                f"a model of type {model.config.model_type!r} answers otherwise in a batch of slots than "
                f"alone: log-probabilities differ by {float(difference):.2g}",
                remedy=REMEDY,
            )


@torch.no_grad()
def require_same_states(model: PreTrainedModel, fused: FusedDecoder | None = None) -> None:
    """Tries whether what comes into the unembedding are the last hidden states, from which Q functions learn.

    Raises:
        UserError: the model does something in between, or has no unembedding that is called.
    """
    texts, trunk = ((1, 0, 1, 1, 0), (0, 1)), model.base_model
    for text, states in zip(texts, _states_through_slots(model, texts, fused), strict=True):
        plain = trunk(input_ids=torch.tensor([text], device=model.device), use_cache=False).last_hidden_state
        plain = plain[0, -1]
        bound = min(2**13 * torch.finfo(plain.dtype).eps, 1.0) * max(1.0, float(plain.abs().max()))
        is_same = states.shape == plain.shape and bool((states - plain).abs().max() <= bound)
        if bool(plain.isfinite().all()) and not is_same:
            raise UserError(
                f"a model of type {model.config.model_type!r} changes its hidden states before the "
                "unembedding: a Q function would see other states in play than in training",
                remedy=GUIDE_REMEDY,
            )


def _states_through_slots(
    model: PreTrainedModel, texts: tuple[tuple[int, ...], ...], fused: FusedDecoder | None
) -> Tensor:
    """[n, H]; [n, 0] if nothing comes into an unembedding."""
    if model.get_output_embeddings() is None:
        return torch.empty(len(texts), 0)
    try:
        return _through_slots(model, texts, reads_states=True, fused=fused).states
    except IndexError:
        # The model multiplies with the weight by itself.
        return torch.empty(len(texts), 0)


def _through_slots(
    model: PreTrainedModel,
    texts: tuple[tuple[int, ...], ...],
    reads_states: bool = False,
    fused: FusedDecoder | None = None,
) -> Said:
    """What comes after each text: all but the last token prefilled, the last one decoded."""
    cache = SlotCache(len(texts))
    prompts = tuple(text[:-1] for text in texts)
    batch = read(model, prompts, reads_states)
    if isinstance(fused, NativeDecoder):
        batch = fused.read(prompts)
    cache.reserve(max(map(len, texts)), like=batch.layers)
    rows = torch.arange(len(texts), device=model.device)
    cache.put(rows, batch.layers, rows, batch.max_length)
    last = torch.tensor([text[-1] for text in texts], device=model.device)
    position = torch.tensor([len(p) for p in prompts], device=model.device)
    return fused(cache, last, position) if fused else decode(model, cache, last, position, reads_states)
