"""Which texts go through a network together, and how they are padded. Pure functions."""

from collections.abc import Sequence

import torch
from torch import Tensor


def length_batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Numbers of texts, similar lengths together: a padded batch has at most `max_tokens` tokens, where one
    text alone does not exceed it.

    Raises:
        ValueError: an empty text, or max_tokens below 1.
    """
    if max_tokens < 1 or min(lengths, default=1) < 1:
        raise ValueError(f"want positive lengths and max_tokens, got {min(lengths, default=1)}, {max_tokens}")
    batches: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        # Sorted by length: the newest text of a batch is its longest.
        if batches and (len(batches[-1]) + 1) * lengths[number] <= max_tokens:
            batches[-1].append(number)
        else:
            batches.append([number])
    return batches


def padded(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, both [B, T] int64, padded on the right.

    On the right each token keeps its position, whatever kind of positions the network has.
    """
    width = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *[pad_id] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids, mask
