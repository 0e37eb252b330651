"""Runs as jobs of a Ray cluster that was started before: submitted, refused, stopped and taken up again."""

import json
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.fakes_runs import ROOT, small_recipe, write_recipe

pytestmark = [pytest.mark.ray, pytest.mark.timeout(350)]

NUM_UPDATES = 20
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
    changes = {"run": {"num_updates": NUM_UPDATES, "checkpoint_every": 0}, "cluster": {"mode": "ray"}}
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
        ["timeout", "--signal=KILL", "300", *ISOLATED, "sh", "-c", script],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads((folder / "facts.json").read_text())


def test_a_wrong_recipe_fails_the_job_with_our_exit_code_and_words(facts):
    job = facts["wrong"]
    assert (job["status"], job["exit_code"]) == ("FAILED", 2)
    assert "run.sed is not a setting" in job["log"]
    assert "Traceback" not in job["log"]


def test_stopping_a_job_saves_a_checkpoint(facts):
    job = facts["stopped"]
    assert job["status"] == "STOPPED"
    assert "stopping: saving a checkpoint" in job["log"]
    assert job["summary"]["status"] == "interrupted"
    assert 2 <= job["summary"]["version"] < NUM_UPDATES


def test_another_job_goes_on_where_the_stopped_one_was(facts):
    job = facts["resumed"]
    assert (job["status"], job["exit_code"]) == ("SUCCEEDED", 0)
    assert f"step_{facts['stopped']['summary']['version']:06d}" in job["log"]
    assert (job["summary"]["status"], job["summary"]["version"]) == ("done", NUM_UPDATES)
    # 4 prompts of 2 samples each update, none lost and none twice over the stop.
    assert (job["summary"]["prompts"], job["summary"]["samples"]) == (4 * NUM_UPDATES, 8 * NUM_UPDATES)


def test_what_git_ignores_is_not_uploaded(facts):
    assert {"cluster", "recipes", "pyproject.toml"} <= set(facts["uploaded"])
    assert not {".venv", "runs", ".git", ".mypy_cache"} & set(facts["uploaded"])
