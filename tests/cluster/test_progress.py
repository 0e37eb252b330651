"""What is printed where there is no terminal: one line for everything worth knowing."""

import io

from rich.console import Console

from cluster.evaluation import Measurement
from cluster.progress import Progress


def printed(use):
    file = io.StringIO()
    with Progress(Console(file=file, width=40), "run", 2) as progress:
        use(progress)
    return file.getvalue().splitlines()


def test_an_update_is_one_line_whatever_the_width():
    values = {"reward/mean": 0.123456, "policy/kl": 1e-5, "rollout/lag_mean": 0.0, "loss/policy": 3.0}
    assert printed(lambda p: p.update(1, values)) == ["update 1  reward 0.123  kl 1e-05  lag 0"]


def test_a_measurement_tells_how_many_could_not_be_scored():
    measured = Measurement(metric="exact_match", value=0.5, n=6, num_failed=2)
    line = "held-out exact_match at version 3: 0.5000 (n 6, 2 failed)"
    assert printed(lambda p: p.measurement(3, measured)) == [line]


def test_what_looks_like_markup_is_printed_as_it_is():
    assert printed(lambda p: p.say("skipped [bold] step_000002")) == ["skipped [bold] step_000002"]


def test_an_alarm_is_one_line_and_other_events_are_none():
    facts = {"name": "length_correlation", "message": "longer completions are paid more", "examples": []}
    line = "alarm: longer completions are paid more (examples are in events.jsonl)"
    assert printed(lambda p: p.event("alarm", facts)) == [line]
    assert printed(lambda p: p.event("task_lost", {})) == []
