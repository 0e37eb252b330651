"""A polite end: the first Ctrl-C or SIGTERM asks the loop to save and stop, the second one does not ask."""

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


class Interrupted(Exception):
    """The run was asked to stop, and stopped at a place where it can be resumed."""


class StopRequest:
    """A flag that signals raise. As a context manager it installs its handlers and restores the old ones."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, check_too: Callable[[], None] = lambda: None) -> None:
        """
        Args:
            check_too: raises for another reason to end here.
        """
        self.is_requested = False
        self._check_too = check_too
        self._previous: dict[int, Any] = {}

    def check(self) -> None:
        """Raises Interrupted once a stop was requested."""
        if self.is_requested:
            raise Interrupted
        self._check_too()

    def __enter__(self) -> "StopRequest":
        self._previous = {s: signal.signal(s, self._handle) for s in self.SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.is_requested:
            raise KeyboardInterrupt
        self.is_requested = True
