"""A Hugging Face encoder or language model that turns a text into one vector: the mean over its tokens.

Knows token ids and a network; knows nothing of states, actions and values.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

from antiphon.cpu_linear import speed_up
from antiphon.errors import UserError
from reward_service.components.embedding import mean_pooled
from reward_service.networks.batching import padded
from reward_service.networks.encoding import Ids
from reward_service.networks.network import Network, load
from reward_service.networks.settings import NetworkConfig
from rollout import tiny
from rollout.models import TINY, locate


class EncoderConfig(NetworkConfig):
    """Which network reads the texts, and how."""

    model: str = Field("smollm2-135m", min_length=1)
    """An encoder or a language model: a folder, the id of a model on the hub, a stored model's short name, or
    tiny-llama, which starts from random weights and must be trained."""
    num_layers: int | None = Field(None, ge=0)
    """Only so many layers from the bottom are run. What they give costs less, and tells words apart better
    than the last layers of a language model do. 0 leaves the mean of the token embeddings. null: all."""
    is_trained: bool = False
    """Train the encoder, too. Frozen, each text is read once in a run and its vector kept: a hundred times
    faster. Trained, it can learn what its vectors lack."""
    max_length: int | None = Field(None, ge=8)
    """Tokens of a text that are read at most; null: as many as the network can."""
    too_long: Literal["refuse", "cut_end", "cut_start"] = "refuse"
    """Of a longer text. A dialogue is better cut at its start, a document at its end."""
    state_prefix: str = ""
    """Put before each state, where the encoder was trained with one ("query: ")."""
    action_prefix: str = ""
    """Put before each action ("passage: ")."""


class Encoder(nn.Module):
    """Token ids in, vectors out, with gradients if they are asked for."""

    def __init__(self, network: Network, config: EncoderConfig) -> None:
        """
        Raises:
            UserError: max_length is more than the network can read.
        """
        super().__init__()
        limit = network.limit
        if config.max_length is not None and limit is not None and config.max_length > limit:
            raise UserError(
                f"encoder.max_length is {config.max_length}, the network has {limit} positions",
                remedy=f"set it to {limit} or less",
            )
        self.trunk: PreTrainedModel = network.model
        self.size: int = network.model.config.get_text_config().hidden_size
        self._tokenizer = network.tokenizer
        self._max_length = config.max_length or limit
        self._too_long = config.too_long
        self._pad_id = network.model.config.get_text_config().pad_token_id or 0

    def ids(self, text: str) -> Ids:
        """The token ids of a text, at least one and at most max_length.

        Raises:
            UserError: it is too long and may not be cut, or has no token.
        """
        ids = tuple(self._tokenizer(text).input_ids)
        if not ids:
            raise UserError(f"the text {text!r} has no token", remedy="leave it out of the data")
        if self._max_length is None or len(ids) <= self._max_length:
            return ids
        if self._too_long == "refuse":
            raise UserError(
                f"a text has {len(ids)} tokens, the encoder reads {self._max_length}: {text[:80]!r}…",
                remedy="set encoder.too_long to cut_end or cut_start, or encoder.max_length higher",
            )
        # By the tokenizer, which keeps the tokens that it adds at both ends.
        self._tokenizer.truncation_side = "right" if self._too_long == "cut_end" else "left"
        return tuple(self._tokenizer(text, truncation=True, max_length=self._max_length).input_ids)

    def forward(self, rows: Sequence[Ids]) -> Tensor:
        """The vectors of texts read together. -> [len(rows), size] float32"""
        ids, mask = (tensor.to(self.device) for tensor in padded(rows, self._pad_id))
        return mean_pooled(self.trunk(input_ids=ids, attention_mask=mask).last_hidden_state, mask)

    @property
    def device(self) -> torch.device:
        return next(self.trunk.parameters()).device

    def save(self, folder: Path) -> None:
        """Write network and tokenizer in the Hugging Face format."""
        self.trunk.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)

    def fingerprint(self) -> str:
        """Names everything that a vector depends on beside the token ids."""
        digest = hashlib.sha256(type(self.trunk).__name__.encode())
        for name, tensor in sorted(self.trunk.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:24]


def load_encoder(config: EncoderConfig, seed: int) -> Encoder:
    """The encoder in eval mode: no dropout, also where it is trained.

    `seed` draws the weights of tiny-llama.

    Raises:
        UserError: no such model, or it has fewer layers than are asked for.
    """
    if config.model == TINY:
        network = _random(config, seed)
    else:
        plain = NetworkConfig(**{name: getattr(config, name) for name in NetworkConfig.model_fields})
        network = load(locate(config.model), "encoder", plain)
    if config.num_layers is not None:
        _cut(network.model, config.num_layers)
    return Encoder(network, config).requires_grad_(config.is_trained)


def _random(config: EncoderConfig, seed: int) -> Network:
    if not config.is_trained:
        raise UserError(
            f"{TINY} starts from random weights: frozen, it tells little",
            remedy="set encoder.is_trained: true",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = AutoModel.from_config(tiny.build_config())
    model.config.use_cache = False
    speed_up(model)
    model.to("cuda" if torch.cuda.is_available() and config.device != "cpu" else "cpu")
    return Network(
        model=model.eval(), tokenizer=tiny.build_tokenizer(), max_tokens=config.max_tokens_per_batch
    )


def _cut(model: Any, num_layers: int) -> None:
    """Leave the lowest layers alone.

    Raises:
        UserError: the model has fewer, or no list of layers.
    """
    settings = model.config.get_text_config()
    have = settings.num_hidden_layers
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == have]
    if not lists or num_layers > have:
        raise UserError(
            f"encoder.num_layers is {num_layers}, {type(model).__name__} has {have} layers",
            remedy="set it lower, or to null, which runs all",
        )
    del lists[0][num_layers:]
    settings.num_hidden_layers = num_layers
