"""The pause with a clock that is set by hand."""

import pytest

from cluster.pause import Pause, ScoringFails
from rollout.reports import TaskReport
from rollout.types import Task, Turn
from tests.fakes import SAMPLING, make_dropped, make_prompts, make_summary

TURNS = [Turn(epoch=0, index=i, prompt=prompt) for i, prompt in enumerate(make_prompts(10))]


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def told():
    return []


@pytest.fixture
def pause(clock, told):
    return Pause(
        max_share=0.5,
        probe_every_s=5.0,
        deadline_s=60.0,
        on_event=lambda kind, **facts: told.append((kind, facts)),
        clock=clock,
        sleep=lambda seconds: None,
    )


def answer(num_ok):
    """What became of a probe of four samples."""
    turn = TURNS[0]
    task = Task(id=1, turns=(turn,), num_samples=4, sampling=SAMPLING, policy_version=0, seed=0)
    groups = (make_summary(turn, 0, (1.0,) * num_ok, 4),) if num_ok else ()
    dropped = () if num_ok else (make_dropped(task, turn, "score_error"),)
    return TaskReport(task=task, groups=groups, dropped=dropped, generate_s=0.0, score_s=0.0)


def test_a_prompt_is_tried_every_so_often_and_another_one_each_time(pause, clock):
    pause.begin("why", TURNS[:2])
    assert pause.next_turn() is None
    clock.now_s += 5.0
    assert pause.next_turn() is TURNS[0]
    pause.sent(7)
    assert pause.probe == 7
    clock.now_s += 99.0
    assert pause.next_turn() is None, "one probe at a time"
    pause.answer(answer(0))
    assert pause.next_turn() is TURNS[1]
    pause.sent(8)
    pause.answer(answer(0))
    assert pause.next_turn() is None, "the time counts from one probe to the next"
    clock.now_s += 5.0
    assert pause.next_turn() is TURNS[0]


def test_the_newest_prompts_are_tried(pause, clock):
    pause.begin("why", TURNS)
    clock.now_s += 5.0
    # Eight of ten are kept.
    assert pause.next_turn() is TURNS[2]


def test_a_probe_that_is_scored_ends_the_pause(pause, clock, told):
    pause.begin("why", TURNS)
    clock.now_s += 5.0
    pause.sent(7)
    clock.now_s += 2.0
    pause.answer(answer(4))
    assert not pause.is_on
    assert [kind for kind, _ in told] == ["paused", "resumed"]
    assert told[0][1] == {"cause": "why", "probe_every_s": 5.0, "deadline_s": 60.0}
    assert told[1][1] == {"cause": "why", "paused_s": 7.0}
    clock.now_s += 99.0
    assert pause.next_turn() is None
    pause.check()


@pytest.mark.parametrize(("num_ok", "is_on"), [(0, True), (1, True), (2, False)])
def test_a_probe_may_lose_as_much_as_the_run(pause, num_ok, is_on):
    pause.begin("why", TURNS)
    pause.sent(7)
    pause.answer(answer(num_ok))
    assert pause.is_on == is_on


def test_a_probe_without_a_score_ends_no_pause_even_where_all_may_be_lost(clock):
    pause = Pause(
        max_share=1.0, probe_every_s=5.0, deadline_s=60.0, on_event=lambda kind, **facts: None, clock=clock
    )
    pause.begin("why", TURNS)
    pause.answer(answer(0))
    assert pause.is_on


def test_a_lost_probe_is_sent_again(pause, clock):
    pause.begin("why", TURNS[:2])
    pause.sent(7)
    pause.lose()
    assert pause.probe is None
    clock.now_s += 5.0
    assert pause.next_turn() is TURNS[1]


def test_too_long_a_pause_ends_the_run_with_its_cause(pause, clock):
    pause.begin("7 of 8 failed", TURNS)
    clock.now_s += 59.9
    pause.check()
    clock.now_s += 0.1
    with pytest.raises(ScoringFails, match="7 of 8 failed; paused for 60 s"):
        pause.check()


def test_pauses_add_up_until_scoring_is_known_to_work(pause, clock):
    for _ in range(2):
        pause.begin("why", TURNS)
        clock.now_s += 25.0
        pause.answer(answer(4))
        clock.now_s += 1000.0
    assert pause.spent_s == 50.0
    pause.begin("why", TURNS)
    clock.now_s += 10.0
    with pytest.raises(ScoringFails):
        pause.check()
    pause.answer(answer(4))
    pause.forgive()
    pause.begin("why", TURNS)
    clock.now_s += 59.0
    pause.check()


def test_a_pause_that_goes_on_keeps_its_cause_and_its_clock(pause, clock, told):
    pause.begin("first", TURNS[:1])
    clock.now_s += 40.0
    pause.begin("second", TURNS[1:2])
    assert len(told) == 1
    assert pause.next_turn() is TURNS[0]
    clock.now_s += 20.0
    with pytest.raises(ScoringFails, match="first"):
        pause.check()


def test_what_cannot_pass_ends_the_run_at_once_and_is_called_no_pause(pause, told):
    pause.begin("no reference", TURNS, is_lasting=True)
    assert told == []
    with pytest.raises(ScoringFails) as stopped:
        pause.check()
    assert stopped.value.problem == "no reference"


def test_a_run_that_is_not_paused_is_left_alone(pause, clock):
    clock.now_s += 1e6
    pause.check()
    assert pause.next_turn() is None
    assert pause.spent_s == 0.0
