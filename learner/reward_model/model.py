"""From a language model, or another reward model, to one that gives a text one number.

Called by the training. The trunk is the model's own; the head is new, and starts at zero: before the first
step all answers are equally good.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from antiphon.cpu_linear import speed_up
from antiphon.errors import UserError
from rollout import tiny
from rollout.models import TINY, ModelConfig, locate


def load_reward_model(
    config: ModelConfig, num_trained_layers: int | None, seed: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A sequence classifier with one output, in eval mode (no dropout, as in all training here), and its
    tokenizer, whose pad token ends no text.

    Args:
        num_trained_layers: layers from the top that are trained; None: everything.
        seed: draws whatever weights the model has not.

    Raises:
        UserError: no such model, weights missing beside the head, or fewer layers than shall be trained.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, tokenizer = _random() if config.name == TINY else _stored(config)
    _set_pad_token(model, tokenizer)
    if num_trained_layers is not None:
        freeze_below(model, num_trained_layers)
    speed_up(model)
    return model.eval(), tokenizer


def head_parameters(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """What lies outside of the trunk, by name."""
    prefix = f"{model.base_model_prefix}."
    return {name: p for name, p in model.named_parameters() if not name.startswith(prefix)}


def freeze_below(model: PreTrainedModel, num_trained_layers: int) -> None:
    """Leave the head and the topmost layers to be trained, and nothing else.

    Raises:
        UserError: the model has fewer layers, or no list of layers.
    """
    num_layers = model.config.get_text_config().num_hidden_layers
    lists = [m for m in model.base_model.modules() if isinstance(m, nn.ModuleList) and len(m) == num_layers]
    if not lists or num_trained_layers > num_layers:
        raise UserError(
            f"num_trained_layers is {num_trained_layers}, {type(model).__name__} has {num_layers} layers",
            remedy="set it lower, or to null, which trains everything",
        )
    model.base_model.requires_grad_(False)
    for layer in lists[0][num_layers - num_trained_layers :]:
        layer.requires_grad_(True)


def _random() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    architecture: Any = tiny.build_config()
    architecture.num_labels = 1
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(architecture)
    return _with_zero_head(model, list(head_parameters(model))), tiny.build_tokenizer()


def _stored(config: ModelConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    place: Path | str = locate(config.name)
    try:
        loaded: Any = AutoModelForSequenceClassification.from_pretrained(
            place,
            num_labels=1,
            dtype=getattr(torch, config.dtype),
            attn_implementation=config.attn_implementation,
            output_loading_info=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"no reward model can be made of {config.name!r}: {reason}",
            remedy="name a model with tokenizer that transformers knows as a sequence classifier",
        ) from error
    model: PreTrainedModel
    model, report = loaded
    missing = set(report["missing_keys"])
    # Encoders are often saved without their pooler, which belongs to the head.
    absent = sorted(n for n in missing - set(head_parameters(model)) if ".pooler." not in n)
    if absent:
        raise UserError(
            f"the model {config.name!r} lacks {len(absent)} weights, the first is {absent[0]}",
            remedy="use a folder that holds a complete model",
        )
    return _with_zero_head(model, sorted(missing)), tokenizer


def _with_zero_head(model: PreTrainedModel, names: list[str]) -> PreTrainedModel:
    """The head's last weight at zero, so that training starts without an opinion.

    Only the last: behind several layers of zeros no gradient would reach the trunk. A head that was loaded
    keeps its weights.
    """
    weights = [name for name in names if model.get_parameter(name).dim() == 2]
    with torch.no_grad():
        for name in weights[-1:]:
            model.get_parameter(name).zero_()
    return model


def _set_pad_token(model: PreTrainedModel, tokenizer: Any) -> None:
    """A pad token that is not the end token, where there is one to spare: a classifier on a decoder reads
    the value at the last token that is no pad token."""
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        ends = {tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.sep_token_id}
        spare = [i for i in sorted(_special_ids(tokenizer)) if i not in ends]
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(spare[0]) if spare else tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id


def _special_ids(tokenizer: Any) -> set[int]:
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return {*tokenizer.all_special_ids, *added}
