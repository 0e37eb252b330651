"""Takes a run over from the attempts before: called by start_or_resume.py, before anything is read."""

import time
from collections.abc import Callable

from antiphon.lease import Lease
from cluster.progress import Progress
from cluster.run_dir import RunDir

LOOK_EVERY_S = 5.0
"""How often an attempt looks whether it was superseded, while it writes nothing."""


def take_over(run_dir: RunDir, progress: Progress) -> Lease:
    """Claim the next attempt at a run that exists; says so where the one before did not say how it ended.

    Raises:
        Superseded: somebody else did the same, a moment earlier.
    """
    lease = Lease.next_of(run_dir.path)
    lease.claim()
    earlier = lease.number - 1
    if earlier and "ended" not in lease.facts(earlier):
        progress.say(f"{lease.tell(earlier)} did not end: it writes nothing from here on")
    return lease


class Occasionally:
    """Calls something when it was not called for a while."""

    def __init__(
        self, call: Callable[[], None], every_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._call, self._every_s, self._clock = call, every_s, clock
        self._last_s = clock()

    def __call__(self) -> None:
        if self._clock() - self._last_s >= self._every_s:
            self._last_s = self._clock()
            self._call()
