"""Attempts at one run: numbered; the newest takes over, and an older one that wakes up writes nothing."""

import os
import shutil
import signal

import pytest
from rich.console import Console

from antiphon.errors import UserError
from antiphon.lease import Lease, Superseded
from cluster.plan import prepare
from cluster.progress import Progress
from cluster.recipe import load_recipe
from cluster.run_dir import RunDir
from cluster.stop import StopRequest
from cluster.takeover import Occasionally
from cluster.train import Attempt
from tests.system.fakes_runs import (
    assert_same_run,
    read_json,
    run_cli,
    settings,
    start_program,
    summary,
)


def files(folder):
    """Every file with its number on the disk, which a replacement of equal content changes too."""
    return {p: (p.stat().st_ino, p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def frozen(recipe, tmp_path_factory):
    """A run whose first attempt froze at version 2, whose second one did the rest, and what became of the
    first when it woke up."""
    folder = tmp_path_factory.mktemp("frozen")
    run_dir = folder / "run"
    engine = {"name": "tests.system.fakes_parts:OnceFrozenEngine", "marker": str(folder / "marker")}
    program = start_program(run_dir, "train", recipe, "--run-dir", run_dir, *settings(rollout__engine=engine))
    try:
        _, status = os.waitpid(program.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), status
        assert run_cli("resume", run_dir) == 0
        before = files(run_dir)
        os.kill(program.process.pid, signal.SIGCONT)
        code, _, told = program.end()
    finally:
        if program.process.poll() is None:
            os.kill(program.process.pid, signal.SIGKILL)
    return run_dir, before, code, told


def test_a_new_attempt_goes_on_while_the_old_one_still_lives(frozen, whole):
    run_dir, *_ = frozen
    assert_same_run(run_dir, whole)
    assert (summary(run_dir)["status"], summary(run_dir)["attempt"]) == ("done", 2)


def test_an_old_attempt_that_wakes_up_writes_nothing_and_says_why(frozen):
    """Mutation: the driver writes a post-mortem without looking."""
    run_dir, before, code, told = frozen
    assert code == 3
    assert "attempt 2 (host" in told
    assert "has taken the run over: attempt 1 writes nothing more" in told
    assert "Traceback" not in told
    assert files(run_dir) == before


def test_each_attempt_and_each_checkpoint_says_which_it_was(frozen):
    run_dir, *_ = frozen
    first, second = (read_json(run_dir / "attempts" / f"00000{n}.json") for n in (1, 2))
    assert "ended" not in first
    assert (second["attempt"], second["status"], second["pid"]) == (2, "done", os.getpid())
    made_by = {p.parent.name: read_json(p)["attempt"] for p in run_dir.glob("checkpoints/*/manifest.json")}
    assert made_by == {
        "step_000000": 1,
        "step_000001": 1,
        "step_000002": 1,
        "step_000003": 2,
        "step_000004": 2,
    }


def test_the_learner_looks_before_it_stores_what_it_learned_from(recipe, tmp_path):
    """Mutation: the learner stores without looking, or is built without the lease."""
    run_dir = tmp_path / "run"
    engine = {"name": "tests.system.fakes_parts:UsurpingEngine", "run_dir": str(run_dir)}
    assert run_cli("train", recipe, "--run-dir", run_dir, *settings(rollout__engine=engine)) == 3
    assert sorted(p.name for p in run_dir.glob("trajectories/*")) == ["version=000000", "version=000001"]
    assert sorted(p.name for p in run_dir.glob("checkpoints/*"))[-1] == "step_000002"
    assert not (run_dir / "summary.json").exists()


class Raced(RunDir):
    """A folder in which somebody else begins the same run at the same moment."""

    def create(self, recipe):
        super().create(recipe)
        Lease.next_of(self.path).claim()


def test_of_two_that_begin_a_run_at_once_one_ends_and_leaves_the_other_s_files_alone(recipe, tmp_path):
    """Mutation: `claim` is left out where the recipe is there, or a post-mortem is written."""
    run_dir = Raced(tmp_path / "run")
    attempt = Attempt(prepare(load_recipe(recipe)), run_dir, Progress(Console(quiet=True), "small", 1))
    with pytest.raises(Superseded):
        attempt.run(Attempt.begin)
    assert sorted(p.name for p in run_dir.path.iterdir()) == ["attempts", "recipe.yaml"]


def test_a_run_that_appeared_since_it_was_looked_for_is_left_alone(recipe, tmp_path, whole):
    """Mutation: `open` takes a recipe that is there for its own."""
    run_dir = RunDir(tmp_path / "run")
    attempt = Attempt(prepare(load_recipe(recipe)), run_dir, Progress(Console(quiet=True), "small", 1))
    shutil.copytree(whole, run_dir.path)
    before = files(run_dir.path)
    with pytest.raises(UserError, match="already holds a run"):
        attempt.run(Attempt.begin)
    assert files(run_dir.path) == before


def test_an_attempt_that_only_waits_looks_from_time_to_time(tmp_path):
    """Mutation: the look is left out of the stop request, or happens at every turn."""
    now, looks = [0.0], []
    stop = StopRequest(Occasionally(lambda: looks.append(now[0]), 5.0, clock=lambda: now[0]))
    for now[0] in (0.0, 4.9, 5.0, 9.9, 10.0, 30.0):
        stop.check()
    assert looks == [5.0, 10.0, 30.0]
    lease = Lease.next_of(tmp_path)
    lease.claim()
    stop = StopRequest(Occasionally(lease.check, 0.0))
    stop.check()
    Lease.next_of(tmp_path).claim()
    with pytest.raises(Superseded):
        stop.check()
