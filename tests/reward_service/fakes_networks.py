"""Hugging Face folders with networks that know nothing, made in a moment for the tests of components."""

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

from rollout import tiny

WIDE = {"initializer_range": 0.3}
"""Weights large enough for values that differ visibly."""
SMALL: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, **WIDE}
POSITIONS = 2048


def byte_tokenizer(*, is_segmented: bool = False) -> PreTrainedTokenizerFast:
    """A token per byte; segmented: <bos> A <eos>, or <bos> A <eos> B <eos>, as encoders have it."""
    tokenizer = tiny.build_tokenizer()
    if is_segmented:
        tokenizer.chat_template = None
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<bos> $A <eos>",
            pair="<bos> $A <eos> $B <eos>",
            special_tokens=[("<bos>", tokenizer.bos_token_id), ("<eos>", tokenizer.eos_token_id)],
        )
    return tokenizer


def save(
    folder: Path,
    model: Callable[[Any], Any],
    config: PreTrainedConfig,
    *,
    seed: int = 0,
    is_segmented: bool = False,
) -> str:
    """A folder with the model, its weights drawn from the seed, and a byte tokenizer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model(config).eval().save_pretrained(folder)
    byte_tokenizer(is_segmented=is_segmented).save_pretrained(folder)
    return str(folder)


def llama(**changes: Any) -> LlamaConfig:
    """Rotary positions; pads with a token of its own."""
    plain = {**SMALL, "vocab_size": 259, "intermediate_size": 24, "max_position_embeddings": POSITIONS}
    return LlamaConfig(**{**plain, "pad_token_id": 0, **changes})


def gpt2(**changes: Any) -> GPT2Config:
    """Absolute positions, and dropout in its config."""
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": POSITIONS, **WIDE}
    return GPT2Config(**{**sizes, "vocab_size": 259, "pad_token_id": 0, **changes})


def bert(**changes: Any) -> BertConfig:
    """An encoder: every token sees every other one."""
    plain = {**SMALL, "vocab_size": 259, "intermediate_size": 24, "max_position_embeddings": POSITIONS}
    return BertConfig(**{**plain, "pad_token_id": 0, **changes})


LABELS = {
    "id2label": {0: "Friendly", 1: "Toxic", 2: "Rude"},
    "label2id": {"Friendly": 0, "Toxic": 1, "Rude": 2},
}


def save_classifier(folder: Path, **changes: Any) -> str:
    return save(folder, BertForSequenceClassification, bert(**{**LABELS, **changes}), is_segmented=True)


def save_reward_model(folder: Path, *, is_gpt2: bool = False, **changes: Any) -> str:
    if is_gpt2:
        return save(folder, GPT2ForSequenceClassification, gpt2(num_labels=1, **changes))
    return save(folder, LlamaForSequenceClassification, llama(num_labels=1, **changes))


def save_encoder(folder: Path, **changes: Any) -> str:
    return save(folder, BertModel, bert(**changes), is_segmented=True)


@functools.cache
def options(name: str) -> dict[str, Any]:
    """What a component with a network cannot do without; the folder goes when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="antiphon-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    makers = {"classifier": save_classifier, "reward_model": save_reward_model, "embedding": save_encoder}
    label = {"target": "toxic"} if name == "classifier" else {}
    return {"model": makers[name](folder / name), "device": "cpu", **label}
