"""`antiphon submit` and `antiphon stop` with a Ray cluster that was started before, from outside of it."""

import json
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.fakes_runs import ROOT, small_recipe, write_recipe

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

NUM_UPDATES = 4
ISOLATED = ["unshare", "--net", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"]
"""A loopback interface and a process table of its own; whatever it started ends with it."""


def why_not_isolated() -> str | None:
    missing = [tool for tool in ("unshare", "ip", "timeout") if shutil.which(tool) is None]
    if missing:
        return f"{missing[0]} is not installed"
    trial = subprocess.run([*ISOLATED, "ip", "link", "set", "lo", "up"], capture_output=True, text=True)
    return f"namespaces are not permitted here: {trial.stderr.strip()}" if trial.returncode else None


@pytest.fixture(scope="module")
def facts(model, tmp_path_factory):
    """What drive_jobs.py saw."""
    reason = why_not_isolated()
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("jobs")
    engine = {"name": "tests.system.fakes_parts:GatedEngine", "folder": str(folder)}
    (folder / "hold_2").touch()
    changes = {
        "run": {"num_updates": NUM_UPDATES, "checkpoint_every": 0},
        "rollout": {"engine": engine},
        "cluster": {"mode": "ray"},
    }
    recipe = small_recipe(model)
    recipe = {**recipe, **{name: {**recipe[name], **section} for name, section in changes.items()}}
    path = write_recipe(folder / "small.yaml", recipe)
    drive = [sys.executable, str(ROOT / "tests/system/drive_jobs.py"), str(path), str(folder)]
    # The shell stays as the first process: it buries orphans, for which `stop` would wait to no end.
    script = f"ip link set lo up && {' '.join(drive)}; exit $?"
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "OMP_NUM_THREADS": "1",
    }
    ended = subprocess.run(
        ["timeout", "--signal=KILL", "560", *ISOLATED, "sh", "-c", script],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads((folder / "facts.json").read_text())


def told(job):
    """What was printed, without the line breaks of a narrow terminal."""
    return " ".join(job["told"].split())


def test_a_run_that_cannot_fit_is_refused_at_once_with_both_sums_and_no_job_is_made(facts):
    """Mutation: the room is looked at after the submission, or not at all."""
    assert facts["too_large"]["code"] == 2
    # 64 for the learner, 0.5 for the actor, 0.1 for the reward service; the head was started with 2.
    assert "need 64.6 CPUs, the cluster has 2" in told(facts["too_large"])
    assert facts["num_jobs_after_too_large"] == 0


def test_the_same_name_and_recipe_is_the_same_job(facts):
    """Mutation: `decide` always submits; Ray would then refuse the id."""
    assert (facts["first"]["code"], facts["again"]["code"]) == (0, 0)
    assert "submitted small: the run directory is" in told(facts["first"])
    assert "small is that run already: it goes on" in told(facts["again"])


def test_another_recipe_under_the_name_is_refused_and_the_setting_is_named(facts):
    assert facts["other"]["code"] == 2
    assert "stands for another run in this cluster: run.seed 5 (is 1)" in told(facts["other"])


def test_stopping_a_job_saves_a_checkpoint_within_the_time_it_has(facts):
    job = facts["stop"]
    assert job["code"] == 0
    assert "it has 200 s to save a checkpoint" in told(job)
    assert (job["summary"]["status"], job["summary"]["version"]) == ("interrupted", 2)
    assert "attempt 1 of the run: interrupted at version 2" in told(job)
    assert "newest checkpoint: step_000002" in told(job)


def test_the_same_command_goes_on_where_the_stopped_job_was(facts):
    job = facts["resumed"]
    assert job["code"] == 0
    assert "submitted small.2" in told(job)
    assert "resumed from" in told(job)
    assert "step_000002" in told(job)
    assert f"attempt 2 of the run: done at version {NUM_UPDATES}" in told(job)
    assert (job["summary"]["status"], job["summary"]["version"]) == ("done", NUM_UPDATES)
    # 4 prompts of 2 samples each update, none lost and none twice over the stop.
    assert (job["summary"]["prompts"], job["summary"]["samples"]) == (4 * NUM_UPDATES, 8 * NUM_UPDATES)
    assert job["told"].count("next: antiphon chat") == 1, "the log is shown once"


def test_a_run_that_is_done_is_not_submitted_again(facts):
    assert facts["after"]["code"] == 0
    assert "small.2 is that run already: done" in told(facts["after"])
    assert facts["jobs"] == {"small": "STOPPED", "small.2": "SUCCEEDED", "dying": "FAILED"}


def test_a_failed_run_is_told_with_its_exit_code_and_its_first_cause(facts):
    """Mutation: the driver exits with 0, or says nothing of postmortem.json."""
    job = facts["failed"]
    assert job["code"] == 1
    assert "failed, exit code 1" in told(job)
    assert re.search(r"first cause: \w+: actor 0 ActorDiedError", told(job))
    assert "antiphon-job" not in told(job)


def test_what_is_listed_is_what_is_uploaded(facts):
    """Mutation: `look_at` does not pass the defaults or .gitignore on."""
    assert facts["listed"] == facts["uploaded"]
    assert {"small.yaml", "cluster/cli.py", ".gitignore"} <= set(facts["uploaded"])
    tops = {path.split("/")[0] for path in facts["uploaded"]}
    assert not {".venv", "runs", ".git", "data"} & tops
