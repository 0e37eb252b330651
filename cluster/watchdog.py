"""Looks at progress, not at liveness: a process can be alive and do nothing for ever."""

import faulthandler
import sys
import time
from collections.abc import Callable

from cluster.ports import StalledError


class Watchdog:
    """Raises when nothing was achieved for `deadline_s`. Whoever achieves something calls `touch`."""

    def __init__(self, deadline_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.deadline_s = deadline_s
        self._clock = clock
        self._last_s = clock()

    @property
    def idle_s(self) -> float:
        return self._clock() - self._last_s

    def touch(self) -> None:
        """Something was achieved: a task came back, an update ended, an actor confirmed."""
        self._last_s = self._clock()

    def check(self, describe: Callable[[], str]) -> None:
        """Dump the stacks of this process and raise if the deadline has passed.

        Raises:
            StalledError: says whom `describe` was waiting for.
        """
        if self.idle_s > self.deadline_s:
            faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
            raise StalledError(f"no progress for {self.idle_s:.0f} s while waiting for {describe()}")
