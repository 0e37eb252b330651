"""Runs whose samples are dialogues: stored, resumed, learned from again, and the same on Ray."""

import signal
from itertools import pairwise

import pytest

from rollout.trajectories import read_parquet
from tests.system.fakes_dialogues import talking
from tests.system.fakes_learning import OFFLINE, replaying
from tests.system.fakes_runs import (
    assert_same_run,
    run_cli,
    settings,
    summary,
    updates,
    write_recipe,
)


@pytest.fixture(scope="module")
def dialogues(model, tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("recipe") / "talking.yaml", talking(model))


@pytest.fixture(scope="module")
def played(dialogues, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("played") / "run"
    assert run_cli("train", dialogues, "--run-dir", run_dir) == 0
    return run_dir


def test_dialogues_are_stored_as_they_were_played(played):
    trajectories = [t for g in read_parquet(played / "trajectories") for t in g.trajectories]
    assert len(trajectories) == 32
    num_changes = [sum(a != b for a, b in pairwise(t.action_mask)) for t in trajectories]
    # From the prompt to the first action, and twice for each observation.
    assert set(num_changes) == {1, 3, 5}
    for t in trajectories:
        assert t.action_mask[-1]
        # A policy of bytes may say "<" itself.
        num_observations = sum(a and not b for a, b in pairwise(t.action_mask))
        assert t.completion_text.count("<") >= num_observations
        assert all(p == 0.0 for p, drawn in zip(t.logprobs, t.action_mask, strict=True) if not drawn)
    assert len({line["loss/policy"] for line in updates(played)}) == 4
    # Of action tokens alone: at most three actions of four tokens.
    assert all(line["length/max"] <= 12 for line in updates(played))
    told = summary(played)
    assert told["completion_tokens"] == sum(sum(t.action_mask) for t in trajectories)
    assert told["eval"]["n"] == 4


def test_a_run_of_dialogues_that_is_taken_up_again_equals_one_that_never_stopped(dialogues, played, tmp_path):
    run_dir = tmp_path / "run"
    assert run_cli("train", dialogues, "--run-dir", run_dir, *settings(run__num_updates=2)) == 0
    recipe = run_dir / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("num_updates: 2", "num_updates: 4"))
    (run_dir / "summary.json").unlink()
    assert run_cli("resume", run_dir) == 0
    assert_same_run(run_dir, played)


def test_dialogues_of_an_earlier_run_are_learned_from_offline(dialogues, played, tmp_path):
    run_dir = tmp_path / "run"
    changes = replaying({**OFFLINE, "trajectories": [str(played)]})
    assert run_cli("train", dialogues, "--run-dir", run_dir, *changes) == 0
    told = summary(run_dir)
    assert (told["status"], told["version"], told["samples"]) == ("done", 4, 0)


def test_a_context_that_dialogues_may_outgrow_is_refused_before_anything_starts(dialogues, tmp_path, capfd):
    recipe = dialogues.read_text().replace("Chatter", "Chatter\n    max_tokens: 60")
    path = tmp_path / "long.yaml"
    path.write_text(recipe)
    assert run_cli("train", path, "--run-dir", tmp_path / "run") == 2
    assert "exceeds the model's context of 64" in " ".join(capfd.readouterr().err.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.ray
def test_dialogues_on_ray_equal_those_in_one_process(dialogues, played, tmp_path, ray_environment):
    """The actor builds the environment. Tokens, numbers and weights, bit for bit."""
    ray_session = pytest.importorskip("cluster.ray_session")
    from cluster.recipe import load_recipe

    handler = signal.getsignal(signal.SIGTERM)
    with ray_session.session(load_recipe(dialogues)):
        run_dir = tmp_path / "run"
        changes = settings(cluster__mode="ray", cluster__cpus_per_actor=0.25, rollout__num_actors=1)
        assert run_cli("train", dialogues, "--run-dir", run_dir, *changes) == 0
    assert_same_run(run_dir, played)
    assert signal.getsignal(signal.SIGTERM) == handler
