"""Passes of a model over a batch, part by part: forward alone, or forward and backward.

The learner says which parts. What comes out does not depend on how the batch was cut, nor on how many ranks
share the parts: every rank comes out with the whole.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor

from learner.algorithms.base import Algorithm
from learner.batch import Batch
from learner.metrics import Tally
from learner.micro_batches import MicroBatch
from learner.model import PolicyModel
from learner.objective import objective
from learner.ranks import ALONE, Ranks
from learner.sharding import is_sharded, let_go

Precision = Literal["none", "bfloat16"]
"""Of matrix products: "none" is that of the weights."""


@torch.no_grad()
def observe(
    model: PolicyModel,
    batch: Batch,
    parts: Sequence[MicroBatch],
    precision: Precision,
    ranks: Ranks = ALONE,
) -> dict[str, Tensor]:
    """All outputs of the model about the batch but the entropy, [B, T] or [B] by name."""
    streams: dict[str, Tensor] = {}
    for rows, is_counted in ranks.passes(parts):
        with _autocast(model, precision):
            outputs = model(batch.select(rows))
        for name in outputs.keys() - {"entropy"}:
            _put(streams, name, batch, rows if is_counted else [], outputs[name])
    let_go(model)
    return ranks.summed(streams)


def accumulate(
    model: PolicyModel,
    algorithm: Algorithm,
    batch: Batch,
    parts: Sequence[MicroBatch],
    precision: Precision,
    tally: Tally,
    seen: dict[str, Tensor],
    ranks: Ranks = ALONE,
) -> None:
    """Add up the gradient of one optimizer step over its parts.

    Where the batch has no stream "logprob_prox", the log-probs of this very pass stand for it.

    Args:
        seen: gets, at the rows of these parts, the stream "logprob" [B, T] and what the algorithm reports.
    """
    rows_of_step = [row for rows in parts for row in rows]
    totals = algorithm.counts(batch.select(rows_of_step))
    found: dict[str, Tensor] = {}
    for rows, is_counted in ranks.passes(parts):
        micro = batch.select(rows)
        with _autocast(model, precision):
            outputs = model(micro)
        logprob = outputs["logprob"].detach()
        if "logprob_prox" not in micro:
            micro = micro.with_(logprob_prox=logprob)
        terms = algorithm.loss(outputs, micro)
        loss = objective(terms, totals)
        (loss if is_counted else 0.0 * loss).backward()
        tally.add(terms, totals, is_counted)
        with torch.no_grad():
            for name, stream in {"logprob": logprob, **algorithm.report(outputs, micro)}.items():
                _put(found, name, batch, rows if is_counted else [], stream)
    tally.end_step()
    for name, stream in ranks.summed(found).items():
        _put(seen, name, batch, rows_of_step, stream[rows_of_step])


def _autocast(model: PolicyModel, precision: Precision) -> AbstractContextManager[Any]:
    if precision == "none":
        return nullcontext()
    # Copies of weights in half precision would outlive the weights that are gathered for a moment.
    return torch.autocast(model.lm.device.type, torch.bfloat16, cache_enabled=not is_sharded(model))


def _put(streams: dict[str, Tensor], name: str, batch: Batch, rows: MicroBatch, part: Tensor) -> None:
    """Write the part of a stream about these rows, if any, to its place in the whole stream."""
    shape = batch.token_ids.shape if part.dim() == 2 else batch.lengths.shape
    whole = streams.setdefault(name, part.new_zeros(shape))
    index = torch.tensor(rows, dtype=torch.int64, device=part.device)
    if part.dim() == 2:
        whole[index, : part.shape[1]] = part[: len(rows)]
    else:
        whole[index] = part[: len(rows)]
