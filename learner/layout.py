"""How the rows of a batch are laid out for one pass through a transformer, and where their states end up.

Rows that answer one prompt may share it: the prompt stands once, followed by the completions, which see the
prompt and themselves but not each other. The result is the same and the prompt is computed once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from learner.batch import Batch, real_tokens
from learner.functional.branches import Branches

MAX_SHARED_TOKENS = 1024
"""Of one shared row: where attention computes the forbidden pairs too, rows must not grow for ever."""
_MIN_SAVING = 0.2
"""Share of the tokens that sharing must save before it is worth an explicit mask."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """R rows of S tokens, and the place of each state of the batch in them."""

    token_ids: Tensor
    """[R, S] int64"""
    position_ids: Tensor
    """[R, S] int64; each completion counts on from the end of its prompt."""
    mask: Tensor | None
    """[R, 1, S, S] bool, True where the query (third axis) sees the key (last axis); None: plainly causal."""
    branches: Branches
    """The same in numbers: where the prompt of a row ends, and each completion."""
    states: Tensor
    """[N] flat index into R·S of the state before each action, in the order of `action_mask.nonzero()`."""
    finals: Tensor
    """[B] flat index into R·S of the state after the last token of each row of the batch."""


def lay_out(batch: Batch, share_prompts: bool) -> Layout:
    """The layout of fewest tokens; without sharing, or where it saves little, the rows as they are."""
    if not share_prompts:
        return plain(batch)
    parts = bundles(batch, range(batch.num_rows), MAX_SHARED_TOKENS)
    width = max(bundle_sizes(batch, parts))
    if len(parts) * width > (1.0 - _MIN_SAVING) * batch.token_ids.numel():
        return plain(batch)
    return shared(batch, parts, width)


def plain(batch: Batch) -> Layout:
    """The rows as they are; padding lies to the right, where causal attention does not look."""
    num_rows, width = batch.token_ids.shape
    columns = torch.arange(width, device=batch.token_ids.device).expand(num_rows, width)
    starts = torch.arange(num_rows, device=batch.token_ids.device) * width
    row, column = batch.action_mask.nonzero(as_tuple=True)
    return Layout(
        token_ids=batch.token_ids,
        position_ids=columns,
        mask=None,
        branches=Branches(ends=batch.lengths[:, None], length=width, num_prompt=width, num_completion=0),
        states=starts[row] + column - 1,
        finals=starts + batch.lengths - 1,
    )


def shared(batch: Batch, parts: Sequence[Sequence[int]], width: int) -> Layout:
    """One row of `width` tokens per bundle of rows with the same prompt: prompt, completion, completion, …

    `parts` holds every row of the batch once.
    """
    place = _places(batch, parts, width)
    is_real = real_tokens(batch.lengths, batch.token_ids.shape[1])
    column = torch.arange(batch.token_ids.shape[1], device=place.device).expand_as(place)
    completion = torch.arange(1, batch.num_rows + 1, device=place.device)[:, None]
    segment_in_batch = torch.where(column < prompt_lengths(batch)[:, None], 0, completion)

    def scatter(x: Tensor, empty: int) -> Tensor:
        flat = torch.full((len(parts) * width,), empty, dtype=torch.int64, device=place.device)
        flat[place[is_real]] = x[is_real]
        return flat.view(len(parts), width)

    row, t = batch.action_mask.nonzero(as_tuple=True)
    return Layout(
        token_ids=scatter(batch.token_ids, 0),
        position_ids=scatter(column, 0),
        mask=_visible(scatter(segment_in_batch, -1)),
        branches=_branches(batch, parts, width),
        states=place[row, t - 1],
        finals=place.gather(1, batch.lengths[:, None] - 1).squeeze(1),
    )


def prompt_lengths(batch: Batch) -> Tensor:
    """Tokens before the first action, all tokens where there is none. [B]"""
    has_action = batch.action_mask.any(dim=1)
    return torch.where(has_action, batch.action_mask.int().argmax(dim=1), batch.lengths)


def bundles(batch: Batch, rows: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Neighbours among `rows` of one group with the same prompt, as long as they fit into `max_tokens`."""
    lengths, prompts, groups = batch.lengths.tolist(), prompt_lengths(batch).tolist(), batch.group.tolist()
    parts: list[list[int]] = []
    num_tokens = 0
    for row in rows:
        first = parts[-1][0] if parts else row
        completion = lengths[row] - prompts[row]
        is_same = groups[first] == groups[row] and prompts[first] == prompts[row]
        same_prompt = is_same and torch.equal(
            batch.token_ids[first, : prompts[row]], batch.token_ids[row, : prompts[row]]
        )
        if parts and same_prompt and num_tokens + completion <= max_tokens:
            parts[-1].append(row)
            num_tokens += completion
        else:
            parts.append([row])
            num_tokens = lengths[row]
    return parts


def bundle_sizes(batch: Batch, parts: Sequence[Sequence[int]]) -> list[int]:
    """Tokens of each bundle: its prompt once, and all its completions."""
    lengths, prompts = batch.lengths.tolist(), prompt_lengths(batch).tolist()
    return [sum(lengths[row] - prompts[row] for row in part) + prompts[part[0]] for part in parts]


def _places(batch: Batch, parts: Sequence[Sequence[int]], width: int) -> Tensor:
    """The flat index of token t of row b in the shared rows. [B, T]"""
    prompts = prompt_lengths(batch)
    completions = (batch.lengths - prompts).tolist()
    start, shift = [0] * batch.num_rows, [0] * batch.num_rows
    for r, part in enumerate(parts):
        before = 0
        for row in part:
            start[row], shift[row] = r * width, before
            before += completions[row]
    device = batch.lengths.device
    column = torch.arange(batch.token_ids.shape[1], device=device)
    is_completion = column >= prompts[:, None]
    starts, shifts = torch.tensor(start, device=device), torch.tensor(shift, device=device)
    return starts[:, None] + column + is_completion * shifts[:, None]


def _branches(batch: Batch, parts: Sequence[Sequence[int]], width: int) -> Branches:
    """Where the prompt and the completions of each shared row end."""
    lengths, prompts = batch.lengths.tolist(), prompt_lengths(batch).tolist()
    completions = [[lengths[row] - prompts[row] for row in part] for part in parts]
    ends = [
        list(accumulate(own, initial=prompts[part[0]])) for part, own in zip(parts, completions, strict=True)
    ]
    num_ends = max(len(own) for own in ends)
    filled = [own + own[-1:] * (num_ends - len(own)) for own in ends]
    return Branches(
        ends=torch.tensor(filled, device=batch.lengths.device),
        length=width,
        num_prompt=max(prompts),
        num_completion=max(map(max, completions)),
    )


def _visible(segment: Tensor) -> Tensor:
    """Who sees whom: causally, the prompt (segment 0) and one's own segment. [R, S] -> [R, 1, S, S]"""
    query, key = segment[:, :, None], segment[:, None, :]
    order = torch.arange(segment.shape[1], device=segment.device)
    is_past = order[:, None] >= order[None, :]
    return (((key == 0) | (key == query)) & is_past)[:, None]
