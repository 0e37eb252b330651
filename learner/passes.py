"""Passes of a model over a batch, part by part: forward alone, or forward and backward.

The learner says which parts. What comes out does not depend on how the batch was cut.
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

Precision = Literal["none", "bfloat16"]
"""Of matrix products: "none" is that of the weights."""


@torch.no_grad()
def observe(
    model: PolicyModel, batch: Batch, parts: Sequence[MicroBatch], precision: Precision
) -> dict[str, Tensor]:
    """All outputs of the model about the batch but the entropy, [B, T] or [B] by name."""
    streams: dict[str, Tensor] = {}
    for rows in parts:
        with _autocast(model, precision):
            outputs = model(batch.select(rows))
        for name in outputs.keys() - {"entropy"}:
            _put(streams, name, batch, rows, outputs[name])
    return streams


def accumulate(
    model: PolicyModel,
    algorithm: Algorithm,
    batch: Batch,
    parts: Sequence[MicroBatch],
    precision: Precision,
    tally: Tally,
    seen: dict[str, Tensor],
) -> None:
    """Add up the gradient of one optimizer step over its parts.

    Where the batch has no stream "logprob_prox", the log-probs of this very pass stand for it.

    Args:
        seen: gets, at the rows of these parts, the stream "logprob" [B, T] and what the algorithm reports.
    """
    counts = algorithm.counts(batch.select([row for rows in parts for row in rows]))
    for rows in parts:
        micro = batch.select(rows)
        with _autocast(model, precision):
            outputs = model(micro)
        _put(seen, "logprob", batch, rows, outputs["logprob"].detach())
        if "logprob_prox" not in micro:
            micro = micro.with_(logprob_prox=outputs["logprob"].detach())
        terms = algorithm.loss(outputs, micro)
        objective(terms, counts).backward()
        tally.add(terms, counts)
        with torch.no_grad():
            for name, stream in algorithm.report(outputs, micro).items():
                _put(seen, name, batch, rows, stream)
    tally.end_step()


def _autocast(model: PolicyModel, precision: Precision) -> AbstractContextManager[Any]:
    if precision == "none":
        return nullcontext()
    return torch.autocast(model.lm.device.type, torch.bfloat16)


def _put(streams: dict[str, Tensor], name: str, batch: Batch, rows: MicroBatch, part: Tensor) -> None:
    """Write the part of a stream about these rows to its place in the whole stream."""
    shape = batch.token_ids.shape if part.dim() == 2 else batch.lengths.shape
    whole = streams.setdefault(name, part.new_zeros(shape))
    index = torch.tensor(rows, device=part.device)
    if part.dim() == 2:
        whole[index, : part.shape[1]] = part
    else:
        whole[index] = part
