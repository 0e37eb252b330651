"""The pool's own thread: waits for workers, callers and deadlines, and hands out samples.

It is one thread because the kernel ends a zygote with the thread that started it, and because nothing in
here then needs a lock. It never waits for a worker, whatever that does.
"""

import queue
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from reward_service.isolation.config import IsolationConfig
from reward_service.isolation.nursery import Nursery
from reward_service.isolation.request import Request
from reward_service.isolation.team import Team
from reward_service.types import Status

Inbox = queue.SimpleQueue[tuple[str, Request] | None]
"""What callers want scored, by the label of a component; None ends the thread."""
MAX_READ_BYTES = 65536


class Dispatcher:
    """Shares a number of workers among components."""

    def __init__(
        self,
        nurseries: Sequence[Nursery],
        config: IsolationConfig,
        inbox: Inbox,
        bell: socket.socket,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            bell: readable when something lies in the inbox.
        """
        self._config = config
        self._inbox = inbox
        self._bell = bell
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._teams = {n.label: Team(n, config, self._selector) for n in nurseries}
        self._turns = deque(self._teams.values())
        """Who is asked first for work changes with every share that is handed out."""
        self._requests: list[Request] = []
        self._is_over = False

    def run(self) -> None:
        """Returns when the inbox says so; all processes have ended then, and all requests are answered."""
        self._selector.register(self._bell, selectors.EVENT_READ, self._on_bell)
        try:
            for team in self._teams.values():
                team.launch(self._clock())
            while not self._is_over:
                self._turn()
        finally:
            self._close()

    def stats(self) -> dict[str, float]:
        """Counts since the start, by component; may be asked by any thread."""
        teams = self._teams.items()
        return {f"{label}/{what}_total": float(n) for label, t in teams for what, n in t.counts.items()}

    def _turn(self) -> None:
        wait_s = max(0.0, min(self._times(), default=float("inf")) - self._clock())
        happened = self._selector.select(None if wait_s == float("inf") else wait_s)
        now = self._clock()
        for key, mask in happened:
            key.data(now, mask)
        self._expire(now)
        self._hand_out(now)

    def _times(self) -> Iterator[float]:
        """When something must be looked at, if nothing happens before."""
        for team in self._teams.values():
            yield from team.times()
        for request in self._requests:
            yield request.deadline

    def _on_bell(self, now: float, mask: int) -> None:
        self._bell.recv(MAX_READ_BYTES)
        while not self._inbox.empty():
            if (order := self._inbox.get()) is None:
                self._is_over = True
                return
            label, request = order
            self._requests.append(request)
            self._teams[label].add(request.tasks, now)

    def _expire(self, now: float) -> None:
        for team in self._teams.values():
            team.expire(now)
        for request in self._requests:
            if now >= request.deadline:
                request.give_up(Status.TIMEOUT, "was not reached before the deadline of its request")
        self._requests = [request for request in self._requests if not request.is_over]

    def _hand_out(self, now: float) -> None:
        """Gives work to workers as long as there are both."""
        while self._has_room():
            team = next((team for team in self._turns if team.has_work()), None)
            if team is None:
                return
            team.assign(now)
            self._turns.remove(team)
            self._turns.append(team)

    def _has_room(self) -> bool:
        """Another worker may be busy. Those that are stuck leave their place to others, up to a number."""
        busy = [worker for team in self._teams.values() for worker in team.busy()]
        num_stuck = sum(worker.is_stuck for worker in busy)
        return len(busy) - num_stuck < self._config.num_workers and (
            len(busy) < self._config.num_workers + self._config.num_extra_workers
        )

    def _close(self) -> None:
        for team in self._teams.values():
            team.close()
        for request in self._requests:
            request.give_up(Status.ERROR, CLOSED)
        self._selector.close()


CLOSED = "the pool of workers was closed"
