"""The two passes through the model: whole prompts into keys and values, and one more token for every slot.

Called by the torch engine. Both give the logits after the last token, and the states that they were made of
where somebody reads those; both say positions explicitly. Prompts are padded on the right, where causal
attention cannot see it; slots are masked by their own length.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from rollout.engines.kv_cache import Layers, SlotCache

TokenIds = tuple[int, ...]


class Said(NamedTuple):
    """What the model says after some sequences."""

    logits: Tensor
    """[n, V]."""
    states: Tensor
    """[n, H], the input of the unembedding; [n, 0] where nobody reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefilled:
    """Some prompts after their pass through the model; B rows, padded to T."""

    prompts: tuple[TokenIds, ...]
    """B of them, in the order of the rows."""
    layers: Layers
    """Keys and values per layer, each [B, H, T, D]; what lies beyond a row's own length means nothing."""
    said: Said
    """B rows, after the last token of each."""

    @property
    def logits(self) -> Tensor:
        return self.said.logits

    @property
    def max_length(self) -> int:
        return max(len(prompt) for prompt in self.prompts)

    def only(self, row: int) -> "Prefilled":
        """A copy of one row, so that the rest of the batch can be freed."""
        length = len(self.prompts[row])
        pick = slice(row, row + 1)
        layers = [(k[pick, :, :length].clone(), v[pick, :, :length].clone()) for k, v in self.layers]
        said = Said(self.said.logits[pick].clone(), self.said.states[pick].clone())
        return Prefilled(prompts=(self.prompts[row],), layers=layers, said=said)


Reader = Callable[[tuple[TokenIds, ...]], Prefilled]
"""One pass over a few prompts."""


def prefill(read: Reader, prompts: Sequence[TokenIds], max_tokens: int) -> Iterator[Prefilled]:
    """Prefills the prompts in batches of similar length, each at most `max_tokens` with its padding."""
    for batch in _batches(sorted(prompts, key=len), max_tokens):
        yield read(batch)


def decode(
    model: PreTrainedModel, cache: SlotCache, token: Tensor, position: Tensor, reads_states: bool = False
) -> Said:
    """Runs one token for each of the rows 0..n-1 of the cache, and puts its keys and values there.

    Args:
        token: [n] int64.
        position: [n] int64; the row holds all positions before it.
    """
    said = _forward(
        model,
        reads_states,
        input_ids=token[:, None],
        attention_mask=cache.aim(position),
        position_ids=position[:, None],
        past_key_values=cache,
        use_cache=True,
    )
    return Said(said.logits[:, -1], said.states[:, -1])


def _batches(prompts: Sequence[TokenIds], max_tokens: int) -> Iterator[tuple[TokenIds, ...]]:
    """Cuts prompts that come sorted by length; one that is longer than the budget goes alone."""
    batch: list[TokenIds] = []
    for prompt in prompts:
        if batch and (len(batch) + 1) * len(prompt) > max_tokens:
            yield tuple(batch)
            batch = []
        batch.append(prompt)
    if batch:
        yield tuple(batch)


def padded(prompts: Sequence[TokenIds], device: torch.device) -> Tensor:
    """[B, T] token ids, with zeros behind the shorter ones."""
    width = max(map(len, prompts))
    return torch.tensor([p + (0,) * (width - len(p)) for p in prompts], device=device)


def read(model: PreTrainedModel, prompts: tuple[TokenIds, ...], reads_states: bool = False) -> Prefilled:
    """One pass of the model's own forward over all prompts."""
    token_ids, lengths = padded(prompts, model.device), [len(prompt) for prompt in prompts]
    # Only the logits at a last token are wanted; those of all positions would not fit into memory.
    ends, which = torch.tensor(lengths, device=model.device).sub_(1).unique(return_inverse=True)
    cache = DynamicCache(config=model.config)
    said = _forward(
        model,
        reads_states,
        input_ids=token_ids,
        position_ids=torch.arange(token_ids.shape[1], device=model.device).expand(len(prompts), -1),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=ends,
    )
    rows = torch.arange(len(prompts), device=model.device)
    filled: list[Any] = cache.layers
    return Prefilled(
        prompts=prompts,
        layers=[(x.keys, x.values) for x in filled],
        said=Said(said.logits[rows, which], said.states[rows, which]),
    )


def _forward(model: PreTrainedModel, reads_states: bool, **inputs: Any) -> Said:
    """Logits [B, K, V] and states [B, K, H] of one call of the model."""
    if not reads_states:
        logits: Tensor = model(**inputs).logits
        return Said(logits, logits[..., :0])
    seen: list[Tensor] = []
    unembedding: Any = model.get_output_embeddings()
    # What comes into the unembedding are the states at the wanted positions, and no others are kept.
    handle = unembedding.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    try:
        logits = model(**inputs).logits
    finally:
        handle.remove()
    return Said(logits, seen[0])
