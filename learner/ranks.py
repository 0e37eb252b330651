"""The processes that share one learner, as each of them sees the others.

Every rank has the whole batch of an update and its own share of the passes; what the shares found is added up
here, so that whatever looks at a batch sees the same numbers on every rank. Made by rendezvous.py; alone, a
rank does nothing of this. Knows tensors by name, and neither models nor Ray.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

GRACE_S = 5.0
"""For the others to say that they wait, too, once something that all do together has failed."""
POLL_S = 0.1


class RankError(RuntimeError):
    """Something that all ranks do together failed; the message names the rank that is missing."""


class Notes(Protocol):
    """Where ranks leave notes for each other: the store of torch.distributed."""

    def set(self, key: str, value: str) -> None: ...

    def get(self, key: str) -> bytes: ...

    def check(self, keys: list[str]) -> bool: ...


class Ranks:
    """One rank of `num`, numbered from 0. The first one has the data and speaks to the outside.

    Example:
        >>> with ranks.together("update 3"):
        ...     tensors = ranks.same({"score": score} if ranks.is_first else None)
    """

    def __init__(
        self,
        rank: int = 0,
        num: int = 1,
        notes: Notes | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if num > 1 and notes is None:
            raise ValueError("several ranks need a place for their notes")
        self.rank, self.num = rank, num
        self._notes, self._sleep = notes, sleep

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @contextmanager
    def together(self, what: str) -> Iterator[None]:
        """Around something that every rank does at the same time.

        Raises:
            RankError: a rank died, or did not take part before the deadline of the group.
        """
        if self._notes is None:
            yield
            return
        try:
            self._notes.set(f"at/{self.rank}", what)
            yield
        except RuntimeError as error:
            if not _is_of_communication(error):
                raise
            raise RankError(self._tell(what, self._notes, error)) from error

    def same(self, tensors: Mapping[str, Tensor] | None) -> dict[str, Tensor] | None:
        """What the first rank gives, CPU tensors or None, on every rank; others give None."""
        if self.num == 1:
            return None if tensors is None else dict(tensors)
        given = tensors if self.is_first else None
        specs = None if given is None else [[n, str(x.dtype)[6:], list(x.shape)] for n, x in given.items()]
        told = self._same_text(json.dumps(specs))
        found: dict[str, Tensor] = {}
        for name, dtype, shape in json.loads(told) or ():
            tensor = torch.empty(shape, dtype=getattr(torch, dtype)) if given is None else given[name]
            found[name] = tensor = tensor.contiguous()
            dist.broadcast(tensor.view(-1).view(torch.uint8), 0)
        return None if told == "null" else found

    def summed(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Σ over ranks of each tensor; all ranks have the same names and shapes."""
        if self.num == 1:
            return dict(tensors)
        # Autograd's tensors, and those that somebody still holds, are left as they are.
        sums = {name: tensors[name].detach().clone() for name in sorted(tensors)}
        for tensor in sums.values():
            dist.all_reduce(tensor)
        return {name: sums[name] for name in tensors}

    def passes(self, parts: Sequence[list[int]]) -> list[tuple[list[int], bool]]:
        """The parts of this rank, and whether they count; see `dealt`."""
        return dealt(parts, self.rank, self.num)

    def _same_text(self, text: str) -> str:
        size = torch.tensor([len(text.encode())])
        dist.broadcast(size, 0)
        sent = torch.zeros(int(size), dtype=torch.uint8)
        if self.is_first:
            sent.copy_(torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8))
        dist.broadcast(sent, 0)
        return sent.numpy().tobytes().decode()

    def _tell(self, what: str, notes: Notes, error: RuntimeError) -> str:
        """Whom the others missed. A rank that waits says so; who does not is dead, or busy elsewhere."""
        others = [rank for rank in range(self.num) if rank != self.rank]
        reason = str(error).strip().splitlines()[0][:300]
        try:
            notes.set(f"failed/{self.rank}", what)
            missing = _absent(notes, "failed", others, self._sleep)
            seen = [(r, _read(notes, f"at/{r}")) for r in missing]
        except RuntimeError:
            # The notes lie with the first rank.
            seen = [(0, "")]
        if not seen:
            return f"{what}: no rank is missing, the connection between them failed ({reason})"
        names = ", ".join(f"rank {r} (last seen at: {at or 'nothing'})" for r, at in seen)
        return f"{what}: {names} of {self.num} did not take part, seen from rank {self.rank} ({reason})"


ALONE = Ranks()
"""A learner in one process."""


def dealt(parts: Sequence[list[int]], rank: int, num_ranks: int) -> list[tuple[list[int], bool]]:
    """What one rank passes through the model, and whether it counts.

    All ranks make the same number of passes, since each of them gathers the parameters from all. The largest
    parts are halved until the ranks have equally many; where rows run out, a rank passes one row that
    counts for nothing. Parts are sorted by size, so that every round has parts of similar size.
    """
    if num_ranks == 1:
        return [(part, True) for part in parts]
    even = [list(part) for part in parts]
    while len(even) % num_ranks and max(len(part) for part in even) > 1:
        place = max(range(len(even)), key=lambda i: len(even[i]))
        part = even[place]
        even[place : place + 1] = [part[: len(part) // 2], part[len(part) // 2 :]]
    mine = [(part, True) for part in even[rank::num_ranks]]
    num_idle = -(-len(even) // num_ranks) - len(mine)
    return mine + [(even[0][:1], False)] * num_idle


def _is_of_communication(error: RuntimeError) -> bool:
    # gloo has no exception of its own; its messages name its source files.
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def _absent(notes: Notes, key: str, ranks: Sequence[int], sleep: Callable[[float], None]) -> list[int]:
    """The ranks that have not left this note when the time of grace is over."""
    for _ in range(round(GRACE_S / POLL_S)):
        if notes.check([f"{key}/{rank}" for rank in ranks]):
            return []
        sleep(POLL_S)
    return [rank for rank in ranks if not notes.check([f"{key}/{rank}"])]


def _read(notes: Notes, key: str) -> str:
    return notes.get(key).decode() if notes.check([key]) else ""
