"""One component of the pool: the samples that wait for it, and the workers that score them.

Belongs to the thread of the pool. It decides who scores what; how many may work at once is the dispatcher's.
"""

import itertools
import math
import selectors
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from reward_service.isolation.config import IsolationConfig
from reward_service.isolation.nursery import Nursery, how_it_ended
from reward_service.isolation.request import Task
from reward_service.isolation.wire import BadAnswer
from reward_service.isolation.worker import Worker
from reward_service.types import Status

SHARE_S = 0.005
"""A worker is handed as many samples as it will score in this time, so that it need not wait for the pool
after each one: a service that is busy answers late."""
MAX_SHARE = 64
MEMORY = 0.9
"""How much of the mean duration of a sample outlives one sample."""


class Team:
    """The workers of one component."""

    def __init__(self, nursery: Nursery, config: IsolationConfig, selector: selectors.BaseSelector) -> None:
        self.nursery = nursery
        self._config = config
        self._selector = selector
        self._queue: deque[Task] = deque()
        self._workers: dict[int, Worker] = {}
        self._numbers = itertools.count()
        self._mean_s = SHARE_S
        self.counts = {"samples": 0, "forks": 0, "kills": 0, "deaths": 0, "starts": 0}

    # What the dispatcher asks.

    def add(self, tasks: list[Task], now: float) -> None:
        """Samples to be scored; where the component cannot start at present, they are told so at once."""
        self._queue.extend(tasks)
        if self.nursery.control is None:
            if now >= self.nursery.retry_at:
                self.launch(now)
            else:
                self._fail_queue()

    def launch(self, now: float) -> None:
        """Starts the zygote."""
        self.counts["starts"] += 1
        try:
            control = self.nursery.launch(now)
        except OSError as error:
            self._lose(now, str(error), "free some processes or files, or raise their limits")
            return
        self._selector.register(control, selectors.EVENT_READ, self._on_control)

    def has_work(self) -> bool:
        """Samples wait, and a worker can be had for them."""
        while self._queue and self._queue[0].request.is_over:
            self._queue.popleft()
        return bool(self._queue) and self.nursery.is_ready

    def busy(self) -> list[Worker]:
        return [worker for worker in self._workers.values() if worker.is_busy]

    def assign(self, now: float) -> None:
        """Hands the next share of the queue to an idle worker, or to a new one."""
        try:
            worker = next((w for w in self._workers.values() if not w.is_busy), None) or self._fork()
        except OSError as error:
            self._queue.popleft().fail(Status.ERROR, f"no worker could be started: {error}")
            return
        fair = math.ceil(len(self._queue) / self._config.num_workers)
        quick = int(SHARE_S / self._mean_s)
        num = max(1, min(fair, quick, MAX_SHARE, worker.num_samples_left))
        tasks = [self._queue.popleft() for _ in range(min(num, len(self._queue)))]
        worker.give([task for task in tasks if not task.request.is_over], now)
        self._send(worker)

    def expire(self, now: float) -> None:
        """Ends what has taken too long: samples, and the start of the component."""
        if now >= self.nursery.start_deadline:
            self._lose(now, f"it did not load within {self._config.start_deadline_s:g} s")
        for worker in self.busy():
            task = worker.tasks[0]
            if now >= worker.began_at + self._config.deadline_s:
                self._kill(
                    worker, Status.TIMEOUT, f"took longer than {self._config.deadline_s:g} s and was killed"
                )
            elif now >= task.request.deadline:
                self._kill(
                    worker, Status.TIMEOUT, "was not done by the deadline of its request, and was killed"
                )
            elif not worker.is_stuck and now >= worker.began_at + self._config.patience_s:
                worker.is_stuck = True
                self._queue.extendleft(reversed(worker.take_back()))

    def times(self) -> Iterator[float]:
        """When `expire` must look next."""
        yield self.nursery.start_deadline
        for worker in self.busy():
            yield worker.began_at + self._config.deadline_s
            if not worker.is_stuck:
                yield worker.began_at + self._config.patience_s

    def close(self) -> None:
        """Ends all processes."""
        for worker in list(self._workers.values()):
            self._dismiss(worker)
        if (control := self.nursery.control) is not None:
            self._selector.unregister(control)
        self.nursery.close()

    # What happens.

    def _on_control(self, now: float, mask: int) -> None:
        try:
            for message in self.nursery.messages():
                self._on_message(message, now)
        except EOFError:
            self._lose(now, "")

    def _on_message(self, message: dict[str, Any], now: float) -> None:
        if "ready" in message:
            self.nursery.note_ready()
        elif "failed" in message:
            self._lose(now, message["failed"], message["remedy"])
        elif (worker := self._workers.get(message["ended"])) is not None:
            self._on_end(worker, message.get("why") or how_it_ended(message["code"]), now)

    def _on_end(self, worker: Worker, how: str, now: float) -> None:
        """A worker ended unasked. What it had answered by then stays; what it was at has ended it."""
        self._on_worker(worker, now, selectors.EVENT_READ)
        if worker.number in self._workers:
            self._kill(worker, Status.ERROR, f"its process {how}")

    def _on_worker(self, worker: Worker, now: float, mask: int) -> None:
        """A worker has something to say, or takes more of what it is to be sent."""
        if worker.number not in self._workers:
            return
        try:
            if mask & selectors.EVENT_READ:
                self._read(worker, now)
            else:
                self._send(worker)
        except EOFError:
            self._on_silence(worker)
        except BadAnswer as error:
            self._kill(worker, Status.ERROR, f"its process {error}")

    def _read(self, worker: Worker, now: float) -> None:
        for task, answer, took_s in worker.answers(now):
            task.settle(replace(answer.score, id=task.sample.id))
            self.counts["samples"] += 1
            self.nursery.note_health()
            self._mean_s = MEMORY * self._mean_s + (1.0 - MEMORY) * took_s
            is_surplus = len(self._workers) > self._config.num_workers
            if answer.is_last or (not worker.is_busy and (worker.is_spent or is_surplus)):
                self._retire(worker)
                return

    def _on_silence(self, worker: Worker) -> None:
        """A worker has closed its channel: the zygote will tell how it ended, if it has ended."""
        if not worker.is_busy:
            self._retire(worker)
        elif worker.channel in self._selector.get_map():
            self._selector.unregister(worker.channel)

    def _lose(self, now: float, problem: str, remedy: str = "see the log of the service") -> None:
        """The zygote is gone or of no use, and its workers with it."""
        if (control := self.nursery.control) is not None:
            self._selector.unregister(control)
        self.nursery.note_failure(now, problem, remedy)
        for worker in list(self._workers.values()):
            self._dismiss(worker)
            if worker.is_busy:
                worker.tasks.popleft().fail(Status.ERROR, f"its process was lost: {self.nursery.failure}")
                self._queue.extendleft(reversed(worker.tasks))
        if now < self.nursery.retry_at:
            self._fail_queue()
        elif self._queue:
            self.launch(now)

    def _fail_queue(self) -> None:
        while self._queue:
            self._queue.popleft().fail(Status.ERROR, f"it cannot start: {self.nursery.failure}")

    # What is done to workers.

    def _fork(self) -> Worker:
        number = next(self._numbers)
        worker = Worker(number, self.nursery.fork(number), self._config.num_samples_per_worker)
        self._workers[number] = worker
        self._selector.register(worker.channel, selectors.EVENT_READ, partial(self._on_worker, worker))
        self.counts["forks"] += 1
        return worker

    def _send(self, worker: Worker) -> None:
        """Sends what the worker takes now, and sees to it that the rest follows when it takes more."""
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.send() else 0)
        self._selector.modify(worker.channel, mask, self._selector.get_key(worker.channel).data)

    def _kill(self, worker: Worker, status: Status, message: str) -> None:
        """Ends a worker because of the sample that it is at; others take the samples behind it."""
        if worker.is_busy:
            self.counts["kills" if status is Status.TIMEOUT else "deaths"] += 1
            worker.tasks.popleft().fail(status, message)
        self._retire(worker)

    def _retire(self, worker: Worker) -> None:
        """Ends a worker; others take what it has not answered."""
        self._queue.extendleft(reversed(worker.tasks))
        self._dismiss(worker)
        self.nursery.kill(worker.number)

    def _dismiss(self, worker: Worker) -> None:
        """Forgets a worker and what it may still say."""
        del self._workers[worker.number]
        if worker.channel in self._selector.get_map():
            self._selector.unregister(worker.channel)
        worker.channel.close()
