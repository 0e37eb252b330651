"""A run under Ray's own autoscaler: it grows by its rule, loses a node, shrinks when a person says so, and
learns the same as a run in one process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.fakes_runs import (
    HERE,
    ROOT,
    assert_same_run,
    events,
    run_cli,
    small_recipe,
    summary,
    write_recipe,
)
from tests.system.test_job_submit import ISOLATED, why_not_isolated

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

NUM_UPDATES = 8
ON_RAY = {
    "mode": "ray",
    "cpus_per_actor": 0.5,
    "resources": {"rollout": {"rollout": 1}, "learner": {"head": 0.1}, "reward": {"head": 0.1}},
    "autoscaled_to": {"CPU": 5, "rollout": 3},
    # Nobody is given up on a machine where a node takes minutes to start.
    "start_deadline_s": 900.0,
    # One update in which the learner waited for all actors is reason enough.
    "scaling": {"span_s": 0.1, "num_spans": 1, "grow_above": 0.02, "shrink_below": 0.0},
}


def gated_recipe(model: Path, folder: Path, cluster: dict) -> dict:
    recipe = small_recipe(model)
    changes = {
        "run": {"num_updates": NUM_UPDATES, "checkpoint_every": 0},
        # Eight tasks an update: more than three actors hold at once.
        "rollout": {
            "groups_per_update": 8,
            "groups_per_task": 1,
            # By torch: an actor that had no time to build the kernels of its own would round otherwise.
            "engine": {"name": f"{HERE}:GatedEngine", "folder": str(folder), "is_native": False},
            "num_actors": 1,
            "min_actors": 1,
            "max_actors": 3,
        },
        "cluster": cluster,
    }
    return {**recipe, **{name: {**recipe[name], **section} for name, section in changes.items()}}


@pytest.fixture(scope="module")
def fixed(model, tmp_path_factory):
    """The same run in one process; no gate is closed."""
    folder = tmp_path_factory.mktemp("fixed")
    recipe = write_recipe(folder / "small.yaml", gated_recipe(model, folder, {"mode": "inline"}))
    assert run_cli("train", recipe, "--run-dir", folder / "run") == 0
    return folder / "run"


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """Where drive_autoscaler.py left the run and what it saw."""
    reason = why_not_isolated()
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("autoscaled")
    recipe = write_recipe(folder / "small.yaml", gated_recipe(model, folder / "gates", ON_RAY))
    drive = [sys.executable, str(ROOT / "tests/system/drive_autoscaler.py"), str(recipe), str(folder)]
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "disabled",
        "OMP_NUM_THREADS": "1",
    }
    ended = subprocess.run(
        [
            *["timeout", "--signal=KILL", "560", *ISOLATED, "sh", "-c"],
            f"ip link set lo up && {' '.join(drive)}; exit $?",
        ],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    log = folder / "run.log"
    assert ended.returncode == 0, ended.stdout + ended.stderr + (log.read_text() if log.exists() else "")
    return folder


@pytest.fixture(scope="module")
def facts(folder):
    return json.loads((folder / "facts.json").read_text())


def test_nodes_come_when_the_learner_waits_and_go_when_their_actors_have_left(folder, facts):
    """One node for the head and one for each actor. Mutation: leave an actor alive that is not wanted."""
    assert facts["num_nodes"] == {"1": 2, "2": 3, "3": 3, "6": 2}
    changes = [(e["before"], e["actors"], e["reason"]) for e in events(folder / "run", "scaled")]
    waits = "the learner waits for actors"
    assert changes == [(1, 2, waits), (2, 3, waits), (3, 1, "asked for")]


def test_a_person_s_wish_is_answered(facts):
    assert (facts["answer"]["event"], facts["answer"]["actors"]) == ("scaled", 1)


def test_what_a_lost_node_held_is_given_out_again_and_the_run_learns_the_same(folder, facts, fixed):
    """Tokens, numbers and weights, bit for bit; nothing twice, nothing missing. Mutation: forget the tasks of
    an actor that was lost, or give out new prompts in their place."""
    run_dir = folder / "run"
    assert facts["exit_code"] == 0
    assert events(run_dir, "actor_replaced")
    assert events(run_dir, "task_lost")
    assert_same_run(run_dir, fixed)
    assert summary(run_dir)["dropped"] == {}
    assert summary(run_dir)["prompts"] == 8 * NUM_UPDATES
