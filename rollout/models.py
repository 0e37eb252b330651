"""From the `model:` section of a recipe to a model and its tokenizer.

Called by the assembly, once in the learner and once in every rollout actor. Knows names and files; knows
nothing of prompts (rollout/encoding.py), of generation (rollout/engines) or of training (learner).
"""

import re
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from pydantic import Field
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from antiphon.errors import UserError, suggestion
from antiphon.settings import Settings
from rollout import letters, model_store, tiny, wordle_letters

TINY = "tiny-llama"


class Maker(Protocol):
    """A module that makes a small model and its tokenizer from nothing."""

    def build_tokenizer(self) -> PreTrainedTokenizerFast: ...

    def build_config(self) -> PreTrainedConfig: ...

    def build_model(self, seed: int, *, dtype: torch.dtype, attn_implementation: str) -> PreTrainedModel: ...


BUILT_IN: dict[str, Maker] = {TINY: tiny, "gpt2-walks": letters, "llama-wordle": wordle_letters}

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
WEIGHT_FILES = ("*.safetensors",)
"""Weights in other formats are pickles, and a pickle can run anything."""


class ModelConfig(Settings):
    """Which model is trained, and how it is held in memory."""

    name: str = Field(TINY, min_length=1)
    """`tiny-llama`, `gpt2-walks` and `llama-wordle` (built in, random), `smollm2-135m` (after `antiphon model
    get smollm2-135m`), a folder in the Hugging Face format, or the id of a model on the hub (owner/name)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """The type of the parameters. Keep float32 for training: small updates vanish in bfloat16 weights."""
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """Which attention code transformers uses; eager is the slow reference."""


def load_config(config: ModelConfig) -> PreTrainedConfig:
    """The architecture alone, without reading the weights: for checks before a run.

    Raises:
        UserError: no such model.
    """
    if config.name in BUILT_IN:
        return BUILT_IN[config.name].build_config()
    try:
        architecture: PreTrainedConfig = AutoConfig.from_pretrained(
            locate(config.name), trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise _unreadable("config", config.name, error) from error
    return architecture


def load_model(config: ModelConfig, seed: int = 0) -> PreTrainedModel:
    """The model in eval mode, so that dropout never makes two passes differ.

    `seed` draws the parameters of a built-in model; a stored model has its own.

    Raises:
        UserError: no such model, or a folder that lacks its config or some of its weights.
    """
    dtype = getattr(torch, config.dtype)
    if config.name in BUILT_IN:
        maker = BUILT_IN[config.name]
        return maker.build_model(seed, dtype=dtype, attn_implementation=config.attn_implementation).eval()
    place = locate(config.name)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            place,
            dtype=dtype,
            attn_implementation=config.attn_implementation,
            output_loading_info=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError, ImportError) as error:
        raise _unreadable("model", config.name, error) from error
    model: PreTrainedModel
    model, report = loaded
    absent = sorted(report["missing_keys"])
    if absent:
        raise UserError(
            f"the model {config.name!r} lacks {len(absent)} weights, the first is {absent[0]}",
            remedy="use a folder that holds a complete causal language model",
        )
    return model.eval()


def empty_model(config: ModelConfig) -> PreTrainedModel:
    """The model without its values, on the meta device: for whoever gets them from another process.

    Raises:
        UserError: no such model.
    """
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            load_config(config),
            dtype=getattr(torch, config.dtype),
            attn_implementation=config.attn_implementation,
            trust_remote_code=False,
        )
    return model.eval()


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """The tokenizer that belongs to the model.

    Raises:
        UserError: no such model, a folder without tokenizer, or a tokenizer without an end token.
    """
    if config.name in BUILT_IN:
        return BUILT_IN[config.name].build_tokenizer()
    place = locate(config.name)
    if Path(place).is_dir():
        _require(Path(place), TOKENIZER_FILES, "tokenizer")
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise _unreadable("tokenizer", config.name, error) from error
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"the tokenizer of {config.name!r} has no eos token: no completion could end",
            remedy='name one as "eos_token" in its tokenizer_config.json',
        )
    return tokenizer


def eos_token_ids(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> tuple[int, ...]:
    """The ids that end a completion: the tokenizer's first (it ends supervised targets), then the model's.

    The folder's generation_config is not asked: sampling is what the recipe says.
    """
    own = model.config.get_text_config().eos_token_id
    of_model = own if isinstance(own, list) else [own]
    return tuple(dict.fromkeys(i for i in (tokenizer.eos_token_id, *of_model) if i is not None))


def max_context(config: PreTrainedConfig) -> int | None:
    """How many tokens, prompt and completion together, the model takes; None where it states no limit."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def locate(name: str) -> Path | str:
    """The folder of a stored model, or the name itself if it can be a hub id.

    Raises:
        UserError: it is neither, or the folder holds no model.
    """
    if name in model_store.ALIASES:
        return model_store.stored(name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        _require(folder, ("config.json",), "config.json")
        _require(folder, WEIGHT_FILES, "weights")
        return folder
    if HUB_ID.fullmatch(name) and not name.startswith("."):
        return name
    raise UserError(
        f"there is no model {name!r}: no such folder, and no built-in name",
        remedy=f"{suggestion(name, [*BUILT_IN, *model_store.ALIASES])}, or give a folder or a hub id",
    )


def _require(folder: Path, patterns: tuple[str, ...], what: str) -> None:
    if not any(any(folder.glob(pattern)) for pattern in patterns):
        raise UserError(
            f"the model folder {folder} has no {what} (looked for {', '.join(patterns)})",
            remedy="save model and tokenizer into it with save_pretrained, or name another folder",
        )


def _unreadable(what: str, name: str, error: Exception) -> UserError:
    reason = str(error).strip().splitlines()[0]
    return UserError(
        f"the {what} of {name!r} cannot be loaded: {reason}",
        remedy=f"check the name and the network, or use {TINY} or a folder",
    )
