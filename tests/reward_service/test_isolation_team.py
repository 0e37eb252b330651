"""Who scores what, with the clock and both ends of every channel in the hands of the test."""

import io
import selectors
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from reward_service.isolation.config import IsolationConfig
from reward_service.isolation.nursery import Nursery
from reward_service.isolation.request import Request
from reward_service.isolation.team import MAX_SHARE, Team
from reward_service.isolation.wire import Answer, encode_answer, read_task
from reward_service.types import Score, Status
from tests.reward_service.fakes_rewards import sample

NEVER = float("inf")
CONFIG = IsolationConfig(num_workers=1, deadline_s=5.0, patience_s=0.25)


class FakeNursery(Nursery):
    """Its workers are sockets that the test holds."""

    def __init__(self) -> None:
        super().__init__("fake", "fake", {}, CONFIG)
        self.ends: list[socket.socket] = []
        """The workers' ends of their channels, by number."""
        self.killed: list[int] = []
        self.told: list[dict[str, Any]] = [{"ready": True}]

    def launch(self, now: float) -> socket.socket:
        self.control, self._theirs = socket.socketpair()
        return self.control

    def fork(self, number: int) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.settimeout(0.0)
        self.ends.append(theirs)
        return ours

    def kill(self, number: int) -> None:
        self.killed.append(number)

    def messages(self) -> list[dict[str, Any]]:
        told, self.told = self.told, []
        return told

    def close(self) -> None:
        assert self.control is not None
        for end in (self.control, self._theirs, *self.ends):
            end.close()


@dataclass
class Stage:
    """A team, and what a test does to it."""

    nursery: FakeNursery = field(default_factory=FakeNursery)
    selector: selectors.DefaultSelector = field(default_factory=selectors.DefaultSelector)

    def __post_init__(self) -> None:
        self.team = Team(self.nursery, CONFIG, self.selector)
        self.team.launch(0.0)
        self.tell(0.0)

    def ask(self, *completions: str) -> Request:
        request = Request([sample(text, id=text) for text in completions], NEVER)
        self.team.add(request.tasks, 0.0)
        return request

    def tell(self, now: float, *messages: dict[str, Any]) -> None:
        """The zygote tells something."""
        self.nursery.told += messages
        assert self.nursery.control is not None
        self.selector.get_key(self.nursery.control).data(now, selectors.EVENT_READ)

    def given(self, worker: int) -> list[int]:
        """The numbers of the tasks that have come to a worker since."""
        try:
            data = self.nursery.ends[worker].recv(10**6)
        except BlockingIOError:
            return []
        stream, numbers = io.BufferedReader(io.BytesIO(data)), []
        while (task := read_task(stream)) is not None:
            numbers.append(task[0])
        return numbers

    def answer(self, worker: int, *numbers: int) -> None:
        for number in numbers:
            score = Score(id="", status=Status.OK, value=float(number))
            self.nursery.ends[worker].send(encode_answer(Answer(number=number, score=score, is_last=False)))

    def listen(self, now: float) -> None:
        """The team reads what its workers have answered."""
        for key, mask in self.selector.select(0):
            key.data(now, mask)

    def make_quick(self) -> None:
        """Two hundred samples that took no time."""
        for i in range(200):
            self.ask(str(i))
            self.team.assign(0.0)
            self.answer(0, *self.given(0))
            self.listen(0.0)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.team.close()
    stage.selector.close()


def numbers(request: Request) -> list[int]:
    return [task.number for task in request.tasks]


def test_a_worker_is_handed_one_sample_until_they_are_known_to_be_quick(stage: Stage) -> None:
    asked = numbers(stage.ask("a", "b", "c"))
    stage.team.assign(0.0)
    assert stage.given(0) == asked[:1]
    stage.answer(0, asked[0])
    # Two seconds: 0.9 * 0.005 + 0.1 * 2 > 0.2 s a sample.
    stage.listen(2.0)
    stage.team.assign(2.0)
    assert stage.given(0) == asked[1:2]


def test_quick_samples_are_handed_out_in_shares(stage: Stage) -> None:
    stage.make_quick()
    asked = numbers(stage.ask(*map(str, range(100))))
    stage.team.assign(0.0)
    assert stage.given(0) == asked[:MAX_SHARE]
    stage.answer(0, *asked[:MAX_SHARE])
    stage.listen(0.0)
    stage.team.assign(0.0)
    assert stage.given(0) == asked[MAX_SHARE:]


def test_the_clock_of_a_sample_begins_with_the_answer_before(stage: Stage) -> None:
    stage.make_quick()
    request = stage.ask("a", "b")
    stage.team.assign(0.0)
    first, _ = stage.given(0)
    stage.answer(0, first)
    stage.listen(0.2)
    stage.team.expire(5.1)
    assert not request.is_over
    stage.team.expire(5.2)
    assert [s.status for s in request.future.result(0)] == [Status.OK, Status.TIMEOUT]
    assert stage.nursery.killed == [0]


def test_what_waits_behind_a_slow_sample_goes_to_others_in_its_order(stage: Stage) -> None:
    stage.make_quick()
    slow, *rest = numbers(stage.ask("slow", "b", "c"))
    later = numbers(stage.ask("d"))
    stage.team.assign(0.0)
    assert stage.given(0) == [slow, *rest, *later]
    stage.team.expire(0.24)
    assert not stage.team.has_work()
    stage.team.expire(0.25)
    assert stage.team.has_work()
    assert [w.is_stuck for w in stage.team.busy()] == [True]
    stage.team.assign(0.25)
    assert stage.given(1) == [*rest, *later]
    # The slow one answers in the end; its worker would go on with what others do by now.
    stage.answer(0, slow, rest[0])
    stage.listen(1.0)
    assert stage.nursery.killed == [0]


def test_what_waits_behind_a_sample_that_kills_goes_to_others_in_its_order(stage: Stage) -> None:
    stage.make_quick()
    request = stage.ask("deadly", "b", "c")
    rest = numbers(request)[1:]
    stage.team.assign(0.0)
    stage.tell(0.0, {"ended": 0, "code": -11})
    stage.team.assign(0.0)
    assert stage.given(1) == rest
    stage.answer(1, *rest)
    stage.listen(0.0)
    assert [s.message for s in request.future.result(0)] == ["its process died by SIGSEGV", "", ""]


def test_an_answer_that_came_before_the_end_counts(stage: Stage) -> None:
    """The zygote's news may be read first: the second sample is what the worker died of."""
    stage.make_quick()
    request = stage.ask("a", "deadly")
    stage.team.assign(0.0)
    first, _ = stage.given(0)
    stage.answer(0, first)
    stage.nursery.ends[0].close()
    stage.tell(0.0, {"ended": 0, "code": -9})
    scores = request.future.result(0)
    assert [(s.id, s.status) for s in scores] == [("a", Status.OK), ("deadly", Status.ERROR)]


def test_a_worker_that_hangs_up_is_given_nothing_more(stage: Stage) -> None:
    (first,) = numbers(stage.ask("a"))
    stage.team.assign(0.0)
    stage.answer(0, first)
    stage.nursery.ends[0].close()
    stage.listen(0.0)
    again = numbers(stage.ask("b"))
    stage.team.assign(0.0)
    assert stage.given(1) == again
    assert stage.nursery.killed == [0]


def test_a_worker_that_hangs_up_at_work_is_waited_for_until_its_end_is_told(stage: Stage) -> None:
    request = stage.ask("a")
    stage.team.assign(0.0)
    stage.nursery.ends[0].close()
    stage.listen(0.0)
    stage.listen(0.0)
    assert not request.is_over
    stage.tell(0.1, {"ended": 0, "code": 1})
    (score,) = request.future.result(0)
    assert score.message == "its process ended by itself with exit code 1"


def test_an_answer_that_nobody_asked_for_ends_the_worker(stage: Stage) -> None:
    (first,) = numbers(stage.ask("a"))
    stage.team.assign(0.0)
    stage.answer(0, first, first)
    stage.listen(0.0)
    assert stage.nursery.killed == [0]
    assert not stage.team.busy()


def test_a_fork_that_fails_is_an_error_of_the_sample(stage: Stage) -> None:
    request = stage.ask("a")
    stage.team.assign(0.0)
    stage.tell(0.0, {"ended": 0, "code": 0, "why": "could not be started: no memory"})
    (score,) = request.future.result(0)
    assert score.message == "its process could not be started: no memory"


def test_the_team_looks_again_when_patience_and_then_the_deadline_end(stage: Stage) -> None:
    stage.ask("a")
    stage.team.assign(1.0)
    assert sorted(stage.team.times()) == [1.25, 6.0, NEVER]
    stage.team.expire(1.25)
    assert sorted(stage.team.times()) == [6.0, NEVER]
