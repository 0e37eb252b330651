"""What waits for scores: the samples of one call, one task each. Made by the pool, settled by its thread."""

import itertools
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError

from reward_service.isolation.wire import encode_task
from reward_service.reward import in_one_line
from reward_service.types import Sample, Score, Status

_numbers = itertools.count()


class Request:
    """The samples of one call and the scores that they have so far."""

    def __init__(self, samples: Sequence[Sample], deadline: float) -> None:
        """`deadline` is on the clock of time.monotonic."""
        self.deadline = deadline
        self.future: Future[list[Score]] = Future()
        """The scores in the order of the samples, once all are there."""
        self._samples = tuple(samples)
        self._scores: dict[int, Score] = {}
        self.tasks = self._tasks()
        """One for every sample that can be sent to a worker; the others are settled already."""
        if not samples:
            self.future.set_result([])

    @property
    def is_over(self) -> bool:
        """All samples have scores, or the caller has lost interest."""
        return self.future.done()

    def _tasks(self) -> list["Task"]:
        tasks = []
        for index, sample in enumerate(self._samples):
            try:
                tasks.append(Task(self, index, sample))
            except Exception as error:  # Pickling calls the code of whatever lies in the metadata.
                message = f"the sample cannot be sent to a worker: {in_one_line(error)}"
                self.settle(index, Score(id=sample.id, status=Status.INVALID_INPUT, message=message))
        return tasks

    def settle(self, index: int, score: Score) -> None:
        """The score of a sample; a second one changes nothing."""
        self._scores.setdefault(index, score)
        if len(self._scores) == len(self._samples) and not self.is_over:
            # The caller may cancel between the question and the answer.
            try:
                self.future.set_result([self._scores[i] for i in range(len(self._samples))])
            except InvalidStateError:
                return

    def give_up(self, status: Status, message: str) -> None:
        """A status for all samples that have none yet."""
        for index, sample in enumerate(self._samples):
            self.settle(index, Score(id=sample.id, status=status, message=message))


class Task:
    """One sample on its way to a worker."""

    def __init__(self, request: Request, index: int, sample: Sample) -> None:
        """
        Raises:
            Exception: the sample cannot be pickled.
        """
        self.request = request
        self.sample = sample
        self.number = next(_numbers)
        self.frame = encode_task(self.number, sample)
        self._index = index

    def settle(self, score: Score) -> None:
        self.request.settle(self._index, score)

    def fail(self, status: Status, message: str) -> None:
        self.settle(Score(id=self.sample.id, status=status, message=message))
