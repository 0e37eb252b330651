"""The processes of the pool: components that do not start, families that are killed, hosts that die."""

import os
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from antiphon.errors import UserError
from reward_service.isolation.config import IsolationConfig
from reward_service.isolation.nursery import Nursery, how_it_ended
from reward_service.isolation.pool import Pool
from reward_service.types import Score, Status
from tests.reward_service.fakes_isolation import HERE
from tests.reward_service.fakes_processes import A_LOT_S, children_of, host, is_alive, parent_of, wait_until
from tests.reward_service.fakes_rewards import sample


def score(pool: Pool, completion: str, label: str = "unruly", reference: str = "") -> Score:
    return pool.score(label, [sample(completion, reference=reference)], time.monotonic() + A_LOT_S)[0]


def troubled(how: str, **options: Any) -> Pool:
    components = {
        "troubled": (f"{HERE}:Troubled", {"how": how, **options}),
        "unruly": (f"{HERE}:unruly", {}),
    }
    return Pool(components, IsolationConfig(deadline_s=A_LOT_S))


@pytest.mark.parametrize(
    ("how", "problem", "remedy"),
    [
        ("user error", "the weights are not there", "download them"),
        ("raise", "RuntimeError: out of cheese", "mend the component"),
        ("die", "the process that loads it died by SIGSEGV", "see the log"),
        (
            "thread",
            "leaves threads running when it has started: helper",
            "start threads where samples are scored",
        ),
    ],
)
def test_a_component_that_does_not_start_says_why_and_leaves_the_others_alone(
    how: str, problem: str, remedy: str, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    with closing(troubled(how, marks=str(marks))) as pool:
        assert score(pool, "2").value == 2.0
        with pytest.raises(UserError, match=problem) as raised:
            pool.wait_until_started(time.monotonic() + A_LOT_S)
        assert remedy in raised.value.remedy
        assert "the component 'troubled' cannot start" in raised.value.problem
        verdicts = [score(pool, "x", "troubled") for _ in range(50)]
        assert {v.status for v in verdicts} == {Status.ERROR}
        assert all(problem in v.message and v.message.startswith("it cannot start: ") for v in verdicts)
        # One start, and at most one more where fifty calls took longer than the first pause of a second.
        assert len(marks.read_text()) <= 2


def test_a_component_that_hangs_while_it_loads_is_given_up() -> None:
    components = {"troubled": (f"{HERE}:Troubled", {"how": "hang"})}
    with closing(Pool(components, IsolationConfig(start_deadline_s=0.5))) as pool:
        verdict = score(pool, "x", "troubled")
        assert verdict.status is Status.ERROR
        assert verdict.message == "it cannot start: it did not load within 0.5 s"


def test_a_component_that_is_not_loaded_in_time_is_a_user_error() -> None:
    with closing(troubled("hang")) as pool, pytest.raises(UserError, match="'troubled' is not loaded yet"):
        pool.wait_until_started(time.monotonic())


def test_a_component_that_fails_once_is_tried_again(tmp_path: Path) -> None:
    with closing(troubled("once", marks=str(tmp_path / "marks"))) as pool:
        wait_until(lambda: score(pool, "x", "troubled").is_ok, "a second start")
        assert pool.stats()["troubled/starts_total"] == 2.0


def test_the_pause_before_a_start_doubles_up_to_a_minute_and_shrinks_when_samples_are_scored() -> None:
    nursery = Nursery("label", "name", {}, IsolationConfig())
    pauses = []
    for _ in range(8):
        nursery.note_failure(1000.0, "no", "mend it")
        pauses.append(nursery.retry_at - 1000.0)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    # It loads, and is lost before it has scored anything: still no reason to hurry.
    nursery.note_ready()
    nursery.note_failure(1000.0, "", "")
    assert nursery.retry_at == 1060.0
    # It loads, scores and is lost: at once, and then slowly again.
    nursery.note_ready()
    nursery.note_health()
    nursery.note_failure(1000.0, "", "")
    assert nursery.retry_at == 1000.0
    nursery.note_ready()
    nursery.note_failure(1000.0, "", "")
    assert nursery.retry_at == 1002.0


def test_how_a_process_ended_is_told_in_words() -> None:
    assert how_it_ended(-9) == "died by SIGKILL"
    assert how_it_ended(-40) == "died by signal 40"
    assert how_it_ended(3) == "ended by itself with exit code 3"


def test_a_lost_zygote_costs_what_its_workers_were_at_and_is_replaced(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with closing(Pool({"unruly": (f"{HERE}:unruly", {})}, IsolationConfig(deadline_s=A_LOT_S))) as pool:
        worker = int(score(pool, "pid").value or 0)
        waiting = pool.submit("unruly", [sample("touch", reference=str(mark))], time.monotonic() + A_LOT_S)
        wait_until(mark.exists, "a sample is at work")
        os.kill(parent_of(worker), signal.SIGKILL)
        (lost,) = waiting.result()
        assert lost.status is Status.ERROR
        assert lost.message == "its process was lost: the process that loads it died by SIGKILL"
        assert score(pool, "7").value == 7.0
        wait_until(lambda: not is_alive(worker), "a worker ends with its zygote")


def test_what_a_sample_starts_ends_with_its_worker(tmp_path: Path) -> None:
    """A child in a session of its own and a grandchild without a parent: neither is in the worker's group."""
    isolation = IsolationConfig(num_samples_per_worker=1, deadline_s=A_LOT_S)
    with closing(Pool({"unruly": (f"{HERE}:unruly", {})}, isolation)) as pool:
        assert score(pool, "family", reference=str(tmp_path / "family")).is_ok
        pids = family_in(tmp_path)
        wait_until(lambda: not any(map(is_alive, pids)), "the family of a worker ends")


@pytest.mark.parametrize("end", ["kill", "exit"])
def test_nothing_outlives_the_process_that_hosts_the_pool(end: str, tmp_path: Path) -> None:
    with host("unruly", "family", tmp_path / "family") as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        pids = [worker, parent_of(worker), *family_in(tmp_path)]
        assert all(map(is_alive, pids))
        if end == "kill":
            process.kill()
        else:
            process.communicate("\n")
    wait_until(lambda: not any(map(is_alive, pids)), "all processes of a lost host end")


def test_a_component_that_hangs_while_it_loads_does_not_outlive_the_host(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    with host("troubled", "", marks) as process:
        wait_until(marks.exists, "the component begins to load")
        (zygote,) = children_of(process.pid)
        assert is_alive(zygote)
    wait_until(lambda: not is_alive(zygote), "the zygote ends")


def family_in(folder: Path) -> list[int]:
    """The process ids of a child and a grandchild that a sample has started."""
    child, grandchild = (int(word) for word in (folder / "family").read_text().split())
    return [child, grandchild]
