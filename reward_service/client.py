"""How a rollout worker reaches the rewards: one call per batch, one score per sample.

    RewardClient   what the worker sees
    RemoteClient   deadline, splitting and matching by id, whatever the wire;
                   deployment.HandleClient and http.HttpClient are its two wires
    local.LocalClient is the same service in this process

Nothing here knows Ray or HTTP. Failed scores come back with their status; nothing is raised for them. What
a component failed at was tried again in the service; a client tries again only what was not answered.
"""

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Protocol

from reward_service.bundle import by_id, check_ids
from reward_service.types import Sample, Score, Status

FIRST_BACKOFF_S = 0.1
"""The longest pause before the first retry; it doubles with each one."""

Receive = Callable[[], Sequence[Score]]
"""Waits for the answer to a request; raises TimeoutError or ConnectionError where there is none."""


def seconds_until(deadline: float) -> float:
    """Seconds left until a point on the monotonic clock; 0 when it has passed."""
    return max(0.0, deadline - time.monotonic())


class RewardClient(Protocol):
    """Scores a batch; the caller need not know where."""

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """One score per sample, in the same order; ids must differ within a call."""
        ...


class RemoteClient(ABC):
    """A client whose answers may be late, lost, repeated or in another order."""

    def __init__(
        self,
        *,
        deadline_s: float,
        num_retries: int,
        max_batch_size: int,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._deadline_s = deadline_s
        self._num_retries = num_retries
        self._max_batch_size = max_batch_size
        self._sleep = sleep

    @abstractmethod
    def _send(self, samples: Sequence[Sample], deadline: float) -> Receive:
        """Starts one request; the answer is waited for until `deadline` on the monotonic clock."""

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """Returns within `deadline_s`, with a timeout for every sample that has no score by then.

        Raises:
            ValueError: two samples have the same id.
        """
        check_ids(samples)
        deadline = time.monotonic() + self._deadline_s
        verdicts, unanswered = self._attempt(samples, deadline)
        for num_failures in range(1, self._num_retries + 1):
            pause_s = random.uniform(0.0, FIRST_BACKOFF_S * 2 ** (num_failures - 1))
            if not unanswered or time.monotonic() + pause_s >= deadline:
                break
            self._sleep(pause_s)
            again, unanswered = self._attempt(unanswered, deadline)
            verdicts |= again
        return [verdicts[s.id] for s in samples]

    def _attempt(self, samples: Sequence[Sample], deadline: float) -> tuple[dict[str, Score], list[Sample]]:
        """A verdict for every sample, by id, and the samples that the service did not answer.

        The requests run side by side.
        """
        batches = list(in_batches(samples, self._max_batch_size))
        requests = [(batch, self._send(batch, deadline)) for batch in batches]
        verdicts: dict[str, Score] = {}
        unanswered: list[Sample] = []
        for batch, receive in requests:
            answered, failure = self._answer(batch, receive)
            verdicts |= {s.id: answered.get(s.id) or replace_id(failure, s.id) for s in batch}
            unanswered += [s for s in batch if s.id not in answered]
        return verdicts, unanswered

    def _answer(self, batch: Sequence[Sample], receive: Receive) -> tuple[dict[str, Score], Score]:
        """The verdicts on a batch, by id, and the score of every sample that has none among them."""
        answered: dict[str, Score] = {}
        status, message = Status.ERROR, "the reward service left the sample out of its answer"
        try:
            answered = by_id(receive())
        except TimeoutError:
            status, message = Status.TIMEOUT, f"no score within {self._deadline_s:g} s"
        except ConnectionError as error:
            message = f"the reward service was lost: {error}"
        return answered, Score(id="", status=status, message=message)


def replace_id(failure: Score, sample_id: str) -> Score:
    """The same failure, of another sample."""
    return Score(id=sample_id, status=failure.status, message=failure.message)


def in_batches(samples: Sequence[Sample], size: int) -> Iterator[list[Sample]]:
    """Requests of at most `size` samples. Neighbours of one group stay together, in a larger one if need be:
    they are compared with each other."""
    batch: list[Sample] = []
    for _, members in groupby(samples, key=lambda s: s.group or s.id):
        together = list(members)
        if batch and len(batch) + len(together) > size:
            yield batch
            batch = []
        batch.extend(together)
    if batch:
        yield batch
