"""A network and its tokenizer on a device, and the passes of texts through it.

Loaded by a component's `start`. Knows nothing of samples and scores: ids go in, a vector per text comes out.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from antiphon.cpu_linear import speed_up
from antiphon.errors import UserError
from reward_service.networks.batching import length_batches, padded
from reward_service.networks.encoding import Ids
from reward_service.networks.settings import NetworkConfig

Take = Callable[[Any, Tensor], Tensor]
"""(what the network returned, attention mask [B, T]) -> a vector per text, [B, D]."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """What `load` returns."""

    model: Any
    tokenizer: Any
    max_tokens: int
    """Of a padded batch."""

    @property
    def limit(self) -> int | None:
        """Tokens of a text that the network can read; None where it states no limit."""
        stated = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        limits = [n for n in (stated, self.tokenizer.model_max_length) if n is not None and n < 10**9]
        return min(limits, default=None)

    def read(self, texts: Iterable[Ids], take: Take) -> dict[Ids, Tensor]:
        """The vector of each text, float32 on the CPU; equal texts are read once."""
        rows = sorted(set(texts))
        vectors: dict[Ids, Tensor] = {}
        for batch in self._batches(rows):
            read = take(*self._forward([rows[i] for i in batch])).float().cpu()
            vectors |= {rows[i]: vector for i, vector in zip(batch, read, strict=True)}
        return vectors

    def _batches(self, rows: list[Ids]) -> list[list[int]]:
        # A classifier on a decoder finds the last token by the pad id; without one it takes a text at a time.
        if self.model.config.get_text_config().pad_token_id is None:
            return [[i] for i in range(len(rows))]
        return length_batches([len(row) for row in rows], self.max_tokens)

    @torch.inference_mode()
    def _forward(self, rows: list[Ids]) -> tuple[Any, Tensor]:
        pad_id = self.model.config.get_text_config().pad_token_id or 0
        ids, mask = (tensor.to(self.model.device) for tensor in padded(rows, pad_id))
        return self.model(input_ids=ids, attention_mask=mask), mask


def load(place: Path | str, kind: Literal["classifier", "encoder"], config: NetworkConfig) -> Network:
    """The network in eval mode, with its tokenizer.

    Raises:
        UserError: it cannot be loaded, lacks weights, or wants a device that is not there.
    """
    auto = AutoModelForSequenceClassification if kind == "classifier" else AutoModel
    device = _device(config.device)
    try:
        loaded: Any = auto.from_pretrained(
            place,
            dtype=getattr(torch, config.dtype),
            output_loading_info=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{place} cannot be loaded: {reason}", remedy="check the name and the network"
        ) from None
    model, report = loaded
    # The pooler of an encoder is often not saved, and is not asked here.
    absent = sorted(key for key in report["missing_keys"] if kind == "classifier" or "pooler." not in key)
    if absent:
        raise UserError(
            f"{place} lacks {len(absent)} weights of a {kind}, the first is {absent[0]}",
            remedy=f"name a folder that holds a trained {kind}",
        )
    model.config.use_cache = False
    speed_up(model)
    return Network(model=model.to(device).eval(), tokenizer=tokenizer, max_tokens=config.max_tokens_per_batch)


def _device(wanted: str) -> str:
    has_gpu = torch.cuda.is_available()
    if wanted == "cuda" and not has_gpu:
        raise UserError(
            "device is cuda, and this process has no GPU", remedy="set device: auto, or give it one"
        )
    return "cuda" if has_gpu and wanted != "cpu" else "cpu"
