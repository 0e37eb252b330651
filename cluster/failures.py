"""Counts what failed scores cost: over the whole run, for the metrics, and over the newest groups, for the
decision to pause.

The dispatcher enters what the workers report. Nothing here knows what is done about it.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reward_service.types import Status
from rollout.reports import Dropped, FailedScore, GroupSummary, TaskReport
from rollout.types import Turn


def length_bucket(num_tokens: int) -> str:
    """The bucket of a completion by its action tokens: "1", "2", "3-4", "5-8", … up to a power of 2."""
    upper = 1 << max(0, num_tokens - 1).bit_length()
    lower = upper // 2 + 1
    return str(upper) if lower >= upper else f"{lower}-{upper}"


class ScoreTally:
    """Samples of the training whose score failed, by status and by length. Part of the checkpoint.

    A sample is counted once: one whose group was lost on its way to the learner is withdrawn: it comes again.
    """

    def __init__(self) -> None:
        self.failed: Counter[str] = Counter()
        """By status."""
        self.failed_by_length: Counter[str] = Counter()
        self.judged_by_length: Counter[str] = Counter()
        """All samples, whatever came of them."""

    def enter(self, group: GroupSummary | Dropped) -> None:
        self._add(group, 1)

    def withdraw(self, group: GroupSummary) -> None:
        self._add(group, -1)

    def metrics(self) -> dict[str, float]:
        """Running totals, and for each length the share that failed; empty while nothing did."""
        if not self.failed:
            return {}
        shares = {b: self.failed_by_length[b] / n for b, n in self.judged_by_length.items()}
        return {
            **{f"reward/failed_{status}_total": float(n) for status, n in self.failed.items()},
            **{f"reward/failed_by_length/{b}": float(n) for b, n in self.failed_by_length.items()},
            **{f"reward/failed_share_by_length/{b}": share for b, share in shares.items()},
        }

    def state_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {name: dict(counter) for name, counter in vars(self).items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in vars(self):
            setattr(self, name, Counter(state[name]))

    def _add(self, group: GroupSummary | Dropped, sign: int) -> None:
        lengths = [*group.num_tokens, *(f.num_tokens for f in group.failed)]
        changes = (
            ("failed", [f.status.value for f in group.failed]),
            ("failed_by_length", [length_bucket(f.num_tokens) for f in group.failed]),
            ("judged_by_length", [length_bucket(n) for n in lengths]),
        )
        for name, keys in changes:
            counter = getattr(self, name)
            counter.update({key: sign * n for key, n in Counter(keys).items()})
            # Drops what fell to 0: a run that was resumed has no such entries either.
            setattr(self, name, +counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What failed scores cost of one group."""

    turn: Turn
    num_lost: int
    """Samples that are not trained on: the failed ones, or all of a group that was dropped for them."""
    num_samples: int
    failed: tuple[FailedScore, ...]


def losses(report: TaskReport) -> list[Loss]:
    """What failed scores cost of each group of a task."""
    turns = {(turn.epoch, turn.index): turn for turn in report.task.turns}
    size = report.task.num_samples
    lost = [(d, size) for d in report.dropped] + [(g, len(g.failed)) for g in report.groups]
    return [Loss(turn=turns[g.key], num_lost=n, num_samples=size, failed=g.failed) for g, n in lost]


def lost_share(seen: Sequence[Loss]) -> float:
    """Share of the samples of these groups that failed scores cost; 0 of none."""
    return sum(loss.num_lost for loss in seen) / max(1, sum(loss.num_samples for loss in seen))


def is_lasting(seen: Sequence[Loss]) -> bool:
    """Whether waiting cannot help: every failure lies in the samples themselves."""
    statuses = {f.status for loss in seen for f in loss.failed}
    return statuses == {Status.INVALID_INPUT}


def tell(seen: Sequence[Loss]) -> str:
    """How much was lost, and what the newest failure said."""
    num_lost, num_samples = sum(x.num_lost for x in seen), sum(x.num_samples for x in seen)
    newest = next((x.failed[-1] for x in reversed(seen) if x.failed), None)
    said = f"; the newest: {newest.status}: {newest.message}" if newest else ""
    return f"{num_lost} of the last {num_samples} samples could not be scored or fell with their group{said}"


class FailureWindow:
    """The newest groups of the training."""

    def __init__(self, num_groups: int, max_share: float) -> None:
        self.recent: deque[Loss] = deque(maxlen=num_groups)
        self._max_share = max_share

    @property
    def is_full(self) -> bool:
        return len(self.recent) == self.recent.maxlen

    @property
    def is_bad(self) -> bool:
        """Too large a share of a full window is lost."""
        return self.is_full and lost_share(self.recent) > self._max_share
