"""Reads what rows are to hold before they decode: prompts, each once, however many rows want it.

Called by the torch engine, with its cache. Where a prompt did not fit into the slots as often as it is asked
for, it is kept until the next rows come free. Knows nothing of requests or sampling.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rollout.engines.fused import FusedDecoder
from rollout.engines.kv_cache import SlotCache
from rollout.engines.native_decoder import NativeDecoder
from rollout.engines.passes import Prefilled, Said, TokenIds, prefill, read


class PromptReader:
    """Passes over whole sequences, in batches of similar length."""

    def __init__(self, model: PreTrainedModel, fused: FusedDecoder | None, max_tokens: int) -> None:
        """`max_tokens` in one pass, padding included."""
        self._model, self._fused, self._max_tokens = model, fused, max_tokens
        self._kept: Prefilled | None = None
        self.reads_states = False
        """Whether somebody reads the states that logits are made of."""

    def fill(
        self,
        cache: SlotCache,
        rows: Sequence[int],
        sequences: Sequence[TokenIds],
        num_positions: int,
        next_in_line: TokenIds | None,
    ) -> Said:
        """Puts the keys and values of each sequence into its row.

        Args:
            num_positions: that the cache must have room for.
            next_in_line: is kept where it is among the sequences.

        Returns:
            What comes after each, n rows.
        """
        wanted: dict[TokenIds, list[int]] = defaultdict(list)
        for number, sequence in enumerate(sequences):
            wanted[sequence].append(number)
        row_index = self._index(rows)
        parts: list[tuple[Tensor, Said]] = []
        for batch in self._prefilled(list(wanted)):
            pairs = [(n, source) for source, prompt in enumerate(batch.prompts) for n in wanted[prompt]]
            numbers, sources = self._index(pairs).unbind(1)
            cache.reserve(num_positions, like=batch.layers)
            cache.put(row_index[numbers], batch.layers, sources, batch.max_length)
            parts.append((numbers, Said(*(x[sources] for x in batch.said))))
            if next_in_line in batch.prompts and batch is not self._kept:
                self._kept = batch.only(batch.prompts.index(next_in_line))
        order = torch.cat([numbers for numbers, _ in parts]).argsort()
        return Said(*(torch.cat(x)[order] for x in zip(*(said for _, said in parts), strict=True)))

    def forget(self) -> None:
        """The weights have changed, or nobody is in line any more."""
        self._kept = None

    def _prefilled(self, sequences: list[TokenIds]) -> Iterator[Prefilled]:
        kept = self._kept
        if kept is not None and kept.prompts[0] in sequences:
            sequences.remove(kept.prompts[0])
            yield kept
        yield from prefill(self._read, sequences, self._max_tokens)

    def _read(self, prompts: tuple[TokenIds, ...]) -> Prefilled:
        if isinstance(self._fused, NativeDecoder):
            return self._fused.read(prompts)
        return read(self._model, prompts, self.reads_states)

    def _index(self, numbers: Sequence[int] | Sequence[tuple[int, int]]) -> Tensor:
        return torch.tensor(numbers, device=self._model.device)
