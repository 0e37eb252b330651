"""Holds a run while scoring fails: nothing new is given out, and prompts that failed are tried now and then.

    running --begin(cause, turns)--> paused --a probe is scored--> running
                                        |
                                        +--for too long--> check() raises, and the run saves and stops

A probe is an ordinary task for a prompt whose scores failed. It is in no ledger and what comes of it is
thrown away, so that how long an outage lasts changes nothing in what the run learns.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable

from antiphon.errors import UserError
from cluster.failures import losses, lost_share
from rollout.reports import TaskReport
from rollout.types import Turn

NAP_S = 0.05
"""A paused loop has little to do; it looks this often whether somebody asked it to stop."""
NUM_TURNS = 8
"""Prompts that are tried in turn, in case one of them is at fault itself."""


class ScoringFails(UserError):
    """The run was paused for as long as it may be; it stops at a place where it can be resumed."""


class Pause:
    """Whether the run is paused, and the clock of it.

    Time in pauses adds up until `forgive` is called, so that a service that answers single probes and fails
    under load ends the run too.
    """

    def __init__(
        self,
        *,
        max_share: float,
        probe_every_s: float,
        deadline_s: float,
        on_event: Callable[..., None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.is_on = False
        self.probe: int | None = None
        """Id of the task that is under way as a probe."""
        self._max_share = max_share
        self._probe_every_s = probe_every_s
        self._deadline_s = deadline_s
        self._on_event = on_event
        self._clock = clock
        self._sleep = sleep
        self._cause = ""
        self._limit_s = deadline_s
        self._turns: deque[Turn] = deque(maxlen=NUM_TURNS)
        self._began_s = self._probed_s = 0.0
        self._earlier_s = 0.0
        """In pauses that were ended by a probe, but not yet forgiven."""

    @property
    def spent_s(self) -> float:
        """Time in pauses since scoring was last known to work."""
        return self._earlier_s + (self._clock() - self._began_s if self.is_on else 0.0)

    def begin(self, cause: str, turns: Iterable[Turn], is_lasting: bool = False) -> None:
        """Pause, unless the run is paused already.

        Args:
            cause: what failed, for people.
            turns: prompts whose scores failed, at least one; the newest last.
            is_lasting: waiting cannot help; the run stops at once.
        """
        if self.is_on:
            return
        self.is_on = True
        self._cause, self._limit_s = cause, 0.0 if is_lasting else self._deadline_s
        self._turns = deque(turns, maxlen=NUM_TURNS)
        self._began_s = self._probed_s = self._clock()
        if self._limit_s:
            self._on_event("paused", cause=cause, probe_every_s=self._probe_every_s, deadline_s=self._limit_s)

    def next_turn(self) -> Turn | None:
        """The prompt to try now, if it is time to; the caller tells `sent` once it is given out."""
        is_due = self._clock() - self._probed_s >= self._probe_every_s
        return self._turns[0] if self.is_on and is_due and self.probe is None else None

    def sent(self, task_id: int) -> None:
        """A probe was given out."""
        self.probe, self._probed_s = task_id, self._clock()
        self._turns.rotate(-1)

    def answer(self, report: TaskReport) -> None:
        """The probe came back. It ends the pause if it was scored, and lost no more than the run may."""
        self.probe = None
        if self.is_on and report.groups and lost_share(losses(report)) <= self._max_share:
            self._earlier_s, self.is_on = self.spent_s, False
            self._on_event("resumed", cause=self._cause, paused_s=self._clock() - self._began_s)

    def lose(self) -> None:
        """The actor of the probe died."""
        self.probe = None

    def forgive(self) -> None:
        """Scoring is known to work: a later pause has the whole deadline again."""
        self._earlier_s = 0.0

    def rest(self) -> None:
        """What the loop does when it is paused and nothing came back."""
        self._sleep(NAP_S)

    def check(self) -> None:
        """
        Raises:
            ScoringFails: the run is paused, and has been for as long as it may.
        """
        if self.is_on and self.spent_s >= self._limit_s:
            waited = f"; paused for {self.spent_s:.0f} s" if self._limit_s else ""
            raise ScoringFails(
                self._cause + waited,
                remedy="mend the reward component, or raise rollout.max_failed_share or "
                "rollout.pause_deadline_s; what was learned so far is in a checkpoint",
            )
