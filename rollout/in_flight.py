"""How two threads share an engine: one decodes step after step, another now and then brings new weights.

A plain lock would not do: whoever releases it and takes it again at once hardly ever lets anybody else in.
The engine (engines/base.py) goes through the turnstile, which knows neither weights nor tokens.

    decoding thread                        thread with the weights
    with turnstile.turn():  step           with turnstile.visit():  swap      # before the next turn
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock


class Turnstile:
    """One at a time, and a visitor before the next turn."""

    def __init__(self) -> None:
        self._inside = Lock()
        self._next = Lock()
        """Held by whoever goes in next."""

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits until he who is inside comes out."""
        return self._next.locked()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Of the one who comes again and again: after all visitors who wait."""
        with self._next:
            self._inside.acquire()
        try:
            yield
        finally:
            self._inside.release()

    @contextmanager
    def visit(self) -> Iterator[None]:
        """Of those who seldom come."""
        with self._next, self._inside:
            yield
