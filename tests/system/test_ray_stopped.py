"""Runs on Ray as programs: asked to stop, killed with kill -9, and taken up again until they are done."""

import shutil
import signal
import subprocess

import pytest

from tests.system.fakes_runs import (
    assert_same_run,
    events,
    run_cli,
    settings,
    start_program,
    summary,
)

pytest.importorskip("ray")

pytestmark = pytest.mark.ray

NUM_UPDATES = 12
"""Enough of them that a signal arrives while the run goes on."""
CHANGES = {"run__num_updates": NUM_UPDATES}
APART = ("unshare", "--net", "--pid", "--fork", "--mount-proc", "--kill-child=KILL")
"""The program and all that it starts are alone with a network of their own, and end with it."""


def can_be_apart():
    return shutil.which("unshare") and subprocess.run([*APART, "true"], capture_output=True).returncode == 0


def apart():
    if not can_be_apart():
        pytest.skip("`unshare` may not make namespaces here: a kill -9 would leave Ray's processes behind")
    return (*APART, "bash", "-c", 'ip link set lo up && "$@"', "bash")


@pytest.fixture(scope="module")
def long_run(recipe, tmp_path_factory):
    """The same run in one process, never stopped."""
    run_dir = tmp_path_factory.mktemp("long") / "run"
    assert run_cli("train", recipe, "--run-dir", run_dir, *settings(**CHANGES)) == 0
    return run_dir


def test_stopped_killed_and_resumed_on_ray_equals_never_stopped_in_one_process(recipe, long_run, tmp_path):
    """Ctrl-C, then kill -9 of everything, then the rest. Mutation: forget what ran while it was saved."""
    prefix, run_dir, home = apart(), tmp_path / "run", str(tmp_path)
    on_ray = settings(**CHANGES, cluster__mode="ray")
    program = start_program(run_dir, "train", recipe, "--run-dir", run_dir, *on_ray, HOME=home)
    program.wait_for_checkpoint(2)
    code, out, err = program.stop(signal.SIGINT)
    stopped_at = summary(run_dir)["version"]
    assert (code, summary(run_dir)["status"]) == (130, "interrupted"), (out, err)
    assert 2 <= stopped_at < NUM_UPDATES
    assert "Traceback" not in err

    program = start_program(run_dir, "resume", run_dir, prefix=prefix, HOME=home)
    program.wait_for_checkpoint(stopped_at + 2)
    code, out, err = program.stop(signal.SIGKILL)
    assert summary(run_dir)["version"] == stopped_at, (out, err)

    code, out, err = start_program(run_dir, "resume", run_dir, prefix=prefix, HOME=home).end()
    assert (code, summary(run_dir)["status"]) == (0, "done"), (out, err)
    assert len(events(run_dir, "resumed")) == 2
    assert_same_run(run_dir, long_run)
