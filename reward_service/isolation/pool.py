"""What the service calls to have samples scored by isolated components; safe for threads.

It knows no processes: those are the dispatcher's.
"""

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from antiphon.errors import UserError
from reward_service.building import import_path
from reward_service.isolation.config import IsolationConfig
from reward_service.isolation.dispatcher import CLOSED, Dispatcher, Inbox
from reward_service.isolation.nursery import Nursery
from reward_service.isolation.request import Request
from reward_service.types import Sample, Score, Status


class Pool:
    """Child processes for some components; several calls at once share them.

    Example:
        >>> pool = Pool({"form": ("regex", {"pattern": "[0-9]+"})}, IsolationConfig())
        >>> pool.score("form", [Sample(id="a", prompt="", completion="42")], time.monotonic() + 10.0)
        [Score(id='a', status=<Status.OK: 'ok'>, value=1.0, ...)]
        >>> pool.close()
    """

    def __init__(
        self, components: Mapping[str, tuple[str, Mapping[str, Any]]], config: IsolationConfig
    ) -> None:
        """Begins to load the components, and does not wait for them.

        Args:
            components: by label, the name and the options of each, as for `build_reward`.

        Raises:
            UserError: there is no component of that name.
        """
        nurseries = [
            Nursery(label, import_path(name), options, config)
            for label, (name, options) in components.items()
        ]
        self._inbox: Inbox = queue.SimpleQueue()
        self._bell, heard = socket.socketpair()
        self._started = {n.label: n.started for n in nurseries}
        self._lock = threading.Lock()
        self._is_closed = False
        self._dispatcher = Dispatcher(nurseries, config, self._inbox, heard)
        self._thread = threading.Thread(target=self._run, name="isolation", daemon=True)
        self._thread.start()

    def score(self, label: str, samples: Sequence[Sample], deadline: float) -> list[Score]:
        """One score per sample, in the same order; returns by the deadline on the clock of time.monotonic.

        Raises:
            ValueError: there is no component of that label, or the pool is closed.
        """
        return self.submit(label, samples, deadline).result()

    def submit(self, label: str, samples: Sequence[Sample], deadline: float) -> "Future[list[Score]]":
        """`score` for callers that wait in their own way; `asyncio.wrap_future` makes it awaitable.

        A future that is cancelled frees the workers of samples that have not begun.
        """
        if label not in self._started:
            raise ValueError(f"there is no isolated component {label!r}")
        request = Request(samples, deadline)
        with self._lock:
            if self._is_closed:
                raise ValueError(CLOSED)
            self._inbox.put((label, request))
        self._ring()
        return request.future

    def wait_until_started(self, deadline: float) -> None:
        """Returns when all components are loaded.

        Raises:
            UserError: one cannot be, or not by the deadline on the clock of time.monotonic.
        """
        for label, started in self._started.items():
            try:
                started.result(max(0.0, deadline - time.monotonic()))
            except UserError as error:
                raise UserError(
                    f"the component {label!r} cannot start: {error.problem}", remedy=error.remedy
                ) from None
            except TimeoutError:
                raise UserError(
                    f"the component {label!r} is not loaded yet", remedy="wait longer, or make it lighter"
                ) from None

    def stats(self) -> dict[str, float]:
        """Counts by "<label>/<what>": samples answered, forks, kills at a deadline, deaths, starts."""
        return self._dispatcher.stats()

    def close(self) -> None:
        """Ends all processes; samples without a score get status error. A second call does nothing."""
        self._inbox.put(None)
        self._ring()
        self._thread.join()

    def _ring(self) -> None:
        # A full buffer means that the bell rings already; a closed one, that nobody listens any more.
        with contextlib.suppress(OSError):
            self._bell.send(b"!", socket.MSG_DONTWAIT)

    def _run(self) -> None:
        try:
            self._dispatcher.run()
        finally:
            with self._lock:
                self._is_closed = True
            while not self._inbox.empty():
                if (order := self._inbox.get()) is not None:
                    order[1].give_up(Status.ERROR, CLOSED)
