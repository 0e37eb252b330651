"""A container waits for the run in it: who is asked, how often, and when the waiting ends."""

import os
import signal
import subprocess
import sys

import pytest

from cluster.drain import LEARNER, drain, is_driver, is_learner, processes, terminate
from learner.actor import LearnerActor


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["/opt/venv/bin/python", "/opt/venv/bin/antiphon", "train", "r.yaml"], True),
        (["python", "-m", "cluster", "resume", "/checkpoints/run"], True),
        (["python", "-m", "cluster.jobs.driver", "train", "r.yaml", "--run-dir", "/runs/a"], True),
        # The shell around it is not asked: it would die without telling its child.
        (["/bin/sh", "-c", "antiphon train r.yaml --run-dir /checkpoints/run"], False),
        (["python", "/opt/venv/bin/antiphon", "serve-rewards", "r.yaml"], False),
        (["python", "-m", "cluster.drain", "driver"], False),
        (["antiphon"], False),
        ([], False),
    ],
)
def test_only_the_program_that_drives_a_run_is_meant(command, expected):
    assert is_driver(command) is expected


def test_a_learner_is_known_by_the_title_that_ray_gives_it():
    assert is_learner([f"{LEARNER}.update"])
    assert not is_learner(["ray::RolloutActor.run"])
    assert not is_learner([])
    assert LearnerActor.__ray_metadata__.class_name == LEARNER.removeprefix("ray::")


class Table:
    """A process table in a folder; every look lets one more turn pass."""

    def __init__(self, folder, turns):
        self.folder, self.turns = folder, turns
        self.show()

    def show(self):
        for pid in list(self.folder.iterdir()):
            (pid / "cmdline").unlink()
            pid.rmdir()
        for pid, command in (self.turns[0] if self.turns else {}).items():
            (self.folder / pid).mkdir()
            (self.folder / pid / "cmdline").write_bytes(b"\0".join(w.encode() for w in command) + b"\0")

    def sleep(self, seconds):
        self.turns = self.turns[1:]
        self.show()


DRIVER = ["python", "/bin/antiphon", "train", "r.yaml"]


def test_a_driver_is_asked_once_and_waited_for(tmp_path):
    table, asked = Table(tmp_path, [{"7": DRIVER, "8": ["sh"]}, {"7": DRIVER}, {}]), []
    assert drain(is_driver, 60.0, asked.append, tmp_path, table.sleep)
    assert asked == [7]


def test_a_second_driver_that_appears_is_asked_too(tmp_path):
    table, asked = Table(tmp_path, [{"7": DRIVER}, {"7": DRIVER, "9": DRIVER}, {}]), []
    assert drain(is_driver, 60.0, asked.append, tmp_path, table.sleep)
    assert asked == [7, 9]


def test_nothing_to_wait_for_ends_at_once(tmp_path):
    assert drain(is_driver, 0.0, None, tmp_path, sleep=lambda s: pytest.fail("waited"))


def test_the_waiting_has_an_end(tmp_path):
    table = Table(tmp_path, [{"7": DRIVER}] * 5)
    assert not drain(is_driver, -1.0, lambda pid: None, tmp_path, table.sleep)


def test_the_real_process_table_is_read():
    assert any("python" in word for word in dict(processes())[os.getpid()])


def test_terminate_ends_a_real_process_and_bears_that_it_is_gone():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    terminate(process.pid)
    assert process.wait(timeout=30) == -signal.SIGTERM
    terminate(process.pid)
