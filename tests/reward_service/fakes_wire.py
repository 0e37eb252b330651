"""Wires between a client and no service at all."""

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from reward_service.client import Receive, RemoteClient, seconds_until
from reward_service.types import Sample, Score, Status


def score_of(sample: Sample) -> Score:
    """The right score of a sample: a function of its id."""
    return Score(id=sample.id, status=Status.OK, value=float(sample.id))


class TapeClient(RemoteClient):
    """Answers each request by the next act of a script, and writes down what it was asked."""

    def __init__(
        self,
        *acts: Callable[[Sequence[Sample]], Sequence[Score]],
        deadline_s: float = 60.0,
        num_retries: int = 2,
        max_batch_size: int = 100,
    ) -> None:
        self.tape: list[str] = []
        self._acts = iter(acts)
        super().__init__(
            deadline_s=deadline_s,
            num_retries=num_retries,
            max_batch_size=max_batch_size,
            sleep=lambda _: self.tape.append("pause"),
        )

    def _send(self, samples: Sequence[Sample], deadline: float) -> Receive:
        self.tape.append(" ".join(s.id for s in samples))
        act = next(self._acts)
        return lambda: act(samples)


class ChaosClient(RemoteClient):
    """Naps, shuffles, repeats, forgets, loses and fails; whatever arrives has the right value for its id."""

    def __init__(self, seed: int, num_retries: int) -> None:
        super().__init__(deadline_s=60.0, num_retries=num_retries, max_batch_size=5, sleep=lambda _: None)
        self._random = random.Random(seed)
        self._threads = ThreadPoolExecutor(max_workers=4)

    def _send(self, samples: Sequence[Sample], deadline: float) -> Receive:
        answer = [self._verdict(s) for s in samples if self._random.random() < 0.9]
        answer += self._random.sample(answer, len(answer) // 2)
        answer.append(Score(id="999", status=Status.OK, value=999.0))
        self._random.shuffle(answer)
        is_lost, nap_s = self._random.random() < 0.1, self._random.uniform(0.0, 0.005)
        future = self._threads.submit(self._answer_after, nap_s, answer, is_lost)
        return lambda: future.result(seconds_until(deadline))

    def _verdict(self, sample: Sample) -> Score:
        if self._random.random() < 0.2:
            return Score(id=sample.id, status=Status.ERROR, message="bad luck")
        return score_of(sample)

    @staticmethod
    def _answer_after(nap_s: float, answer: list[Score], is_lost: bool) -> list[Score]:
        time.sleep(nap_s)
        if is_lost:
            raise ConnectionError("the replica died")
        return answer
