"""Which rows go through the model together: a plan of an update, made before it starts."""

from collections.abc import Sequence

import torch

from antiphon.seeds import derive
from learner.batch import Batch
from learner.layout import MAX_SHARED_TOKENS, bundle_sizes, bundles

MicroBatch = list[int]
"""Row numbers."""


def minibatches(batch: Batch, num_minibatches: int, seed: int) -> list[list[int]]:
    """All rows, split into parts of about equal size; groups stay whole, their order is drawn from the seed.

    With fewer groups than parts there are fewer parts.
    """
    groups = batch.group.tolist()
    num_groups = max(groups) + 1
    generator = torch.Generator().manual_seed(seed)
    order = (
        torch.randperm(num_groups, generator=generator) if num_minibatches > 1 else torch.arange(num_groups)
    )
    rows_of: list[list[int]] = [[] for _ in range(num_groups)]
    for row, group in enumerate(groups):
        rows_of[group].append(row)
    parts = [part.tolist() for part in order.tensor_split(min(num_minibatches, num_groups))]
    return [[row for group in part for row in rows_of[group]] for part in parts]


def micro_batches(
    batch: Batch, rows: Sequence[int], max_tokens: int, share_prompts: bool
) -> list[MicroBatch]:
    """The rows split so that a laid-out part has at most `max_tokens`, padding included, where one row alone
    does not exceed it. Rows of similar length go together; rows that share a prompt stay together.
    """
    limit = min(max_tokens, MAX_SHARED_TOKENS)
    units = bundles(batch, rows, limit) if share_prompts else [[row] for row in rows]
    sized = sorted(zip(bundle_sizes(batch, units), range(len(units)), strict=True))
    parts: list[MicroBatch] = []
    num_units = 0
    for size, number in sized:
        # Sorted by size: the newest unit of a part is its widest.
        if parts and (num_units + 1) * size <= max_tokens:
            parts[-1] += units[number]
            num_units += 1
        else:
            parts.append(list(units[number]))
            num_units = 1
    return parts


def plan(
    batch: Batch, num_epochs: int, num_minibatches: int, max_tokens: int, share_prompts: bool, seed: int
) -> list[list[MicroBatch]]:
    """For each optimizer step of an update, the micro-batches whose gradients it adds up."""
    steps = [
        part
        for epoch in range(num_epochs)
        for part in minibatches(batch, num_minibatches, derive(seed, epoch))
    ]
    return [micro_batches(batch, rows, max_tokens, share_prompts) for rows in steps]
