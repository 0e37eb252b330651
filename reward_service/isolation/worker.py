"""The pool's end of one worker: the tasks it was given, and the bytes to and from it.

It scores its tasks in order; the first one is what it is at. Knows neither processes nor other workers.
"""

import socket
from collections import deque
from collections.abc import Iterable, Iterator

from reward_service.isolation.request import Task
from reward_service.isolation.wire import Answer, BadAnswer, Frames, decode_answer

MAX_READ_BYTES = 65536


class Worker:
    """A child process as the pool sees it."""

    def __init__(self, number: int, channel: socket.socket, num_samples: int) -> None:
        """
        Args:
            channel: does not block.
            num_samples: how many it may score.
        """
        self.number = number
        self.channel = channel
        self.num_samples_left = num_samples
        self.tasks: deque[Task] = deque()
        """What it was given and has not answered; the first is what it is at."""
        self.began_at = 0.0
        """When it began with the first task, as far as the pool can know."""
        self.is_stuck = False
        """It is at its sample for longer than the pool has patience."""
        self.is_spent = False
        """It is to end after its tasks: others have taken some of them over, or it has had its share."""
        self._frames = Frames()
        self._unsent = bytearray()

    @property
    def is_busy(self) -> bool:
        return bool(self.tasks)

    def give(self, tasks: Iterable[Task], now: float) -> None:
        """Hands tasks to an idle worker; `send` brings them on their way."""
        self.tasks.extend(tasks)
        self.began_at = now
        self.num_samples_left -= len(self.tasks)
        self.is_spent = self.num_samples_left <= 0
        for task in self.tasks:
            self._unsent += task.frame

    def send(self) -> bool:
        """Sends what the worker takes now, without waiting. Returns whether something is left to be sent."""
        try:
            num_sent = self.channel.send(self._unsent) if self._unsent else 0
        except BlockingIOError:
            return True
        except OSError:  # It has ended, which the zygote tells.
            num_sent = len(self._unsent)
        del self._unsent[:num_sent]
        return bool(self._unsent)

    def answers(self, now: float) -> Iterator[tuple[Task, Answer, float]]:
        """What it has answered since, and how many seconds each took.

        Raises:
            BadAnswer: it has sent something else.
            EOFError: it will answer nothing more.
        """
        while data := self._receive():
            for frame in self._frames.feed(data):
                answer = decode_answer(frame)
                if not self.tasks or answer.number != self.tasks[0].number:
                    raise BadAnswer("answered what it was not asked")
                # Of answers that come together, only the sum of the durations is known.
                took_s, self.began_at, self.is_stuck = now - self.began_at, now, False
                yield self.tasks.popleft(), answer, took_s

    def _receive(self) -> bytes:
        """What has come; empty where there is nothing at present.

        Raises:
            EOFError: it has closed its end.
        """
        try:
            data = self.channel.recv(MAX_READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            raise EOFError
        return data

    def take_back(self) -> list[Task]:
        """The tasks behind the one it is at, for others."""
        rest = list(self.tasks)[1:]
        if rest:
            self.is_spent = True
            self.tasks = deque([self.tasks[0]])
        return rest
