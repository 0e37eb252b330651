"""How a rollout worker reaches the rewards: one call per batch, one score per sample.

    RewardClient   what the worker sees
    LocalClient    the rubric in this process
    RemoteClient   deadline, retries and matching by id, whatever the wire;
                   deployment.HandleClient and http.HttpClient are its two wires

Nothing here knows Ray or HTTP. Failed scores come back with their status; nothing is raised for them.
"""

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

from reward_service.rubric import Rubric, by_id, check_ids
from reward_service.types import Sample, Score, Status

RETRYABLE = frozenset({Status.TIMEOUT, Status.ERROR, Status.UNPARSEABLE})
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


class LocalClient:
    """The rubric in this process: no deadline, so that a breakpoint in a reward can be sat upon."""

    def __init__(self, rubric: Rubric) -> None:
        self._rubric = rubric

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        return self._rubric.score(samples)


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
        verdicts = self._attempt(samples, deadline)
        for num_failures in range(1, self._num_retries + 1):
            failed = [s for s in samples if verdicts[s.id].status in RETRYABLE]
            pause_s = random.uniform(0.0, FIRST_BACKOFF_S * 2 ** (num_failures - 1))
            if not failed or time.monotonic() + pause_s >= deadline:
                break
            self._sleep(pause_s)
            verdicts |= self._attempt(failed, deadline)
        return [verdicts[s.id] for s in samples]

    def _attempt(self, samples: Sequence[Sample], deadline: float) -> dict[str, Score]:
        """A verdict for every sample, by id; the requests run side by side."""
        size = self._max_batch_size
        batches = [samples[i : i + size] for i in range(0, len(samples), size)]
        requests = [(batch, self._send(batch, deadline)) for batch in batches]
        verdicts: dict[str, Score] = {}
        for batch, receive in requests:
            verdicts |= self._answer(batch, receive)
        return verdicts

    def _answer(self, batch: Sequence[Sample], receive: Receive) -> dict[str, Score]:
        """The verdicts on one batch, by id, whatever the wire brings."""
        answered: dict[str, Score] = {}
        status, message = Status.ERROR, "the reward service left the sample out of its answer"
        try:
            answered = by_id(receive())
        except TimeoutError:
            status, message = Status.TIMEOUT, f"no score within {self._deadline_s:g} s"
        except ConnectionError as error:
            message = f"the reward service was lost: {error}"
        return {s.id: answered.get(s.id) or Score(id=s.id, status=status, message=message) for s in batch}
