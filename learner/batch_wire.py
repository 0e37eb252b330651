"""A batch on its way from the first rank of a learner to the others: tensors alone, no pickle."""

from dataclasses import fields

from learner.batch import Batch
from learner.ranks import Ranks

_STREAM = "streams."


def send_batch(batch: Batch | None, ranks: Ranks) -> None:
    """From the first rank, whose CPU has the batch; None: there is nothing to learn from."""
    if ranks.num == 1:
        return
    if batch is None:
        ranks.same(None)
        return
    own = {f.name: getattr(batch, f.name) for f in fields(batch) if f.name != "streams"}
    ranks.same(own | {_STREAM + name: stream for name, stream in batch.streams.items()})


def receive_batch(ranks: Ranks) -> Batch | None:
    """What the first rank sent, on another one."""
    found = ranks.same(None)
    if found is None:
        return None
    streams = {n.removeprefix(_STREAM): found.pop(n) for n in list(found) if n.startswith(_STREAM)}
    return Batch(**found, streams=streams)
