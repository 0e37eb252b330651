"""Whole runs in one Ray cluster: equal to the run in one process, and through the death of actors."""

import json
import shutil
import signal
from collections import Counter

import pyarrow.parquet as pq
import pytest

from cluster.recipe import load_recipe
from rollout.trajectories import from_table, read_parquet
from tests.system.fakes_parts import by_id
from tests.system.fakes_q import guided_recipe
from tests.system.fakes_runs import (
    HERE,
    assert_same_run,
    events,
    run_cli,
    settings,
    summary,
    tree,
    updates,
    write_recipe,
)

ray_session = pytest.importorskip("cluster.ray_session")

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def cluster(recipe, ray_environment):
    """A cluster that is started as a run starts its own; gives the handler of SIGTERM from before."""
    handler = signal.getsignal(signal.SIGTERM)
    with ray_session.session(load_recipe(recipe)):
        yield handler


ON_RAY = {"cluster__mode": "ray", "cluster__cpus_per_actor": 0.25}


def test_sigterm_is_left_to_the_run_that_saves_before_it_ends(cluster):
    """ray.init takes the signal for itself. Mutation: leave it Ray's handler."""
    assert signal.getsignal(signal.SIGTERM) == cluster


def test_a_run_on_ray_with_one_actor_equals_the_run_in_one_process(recipe, whole, tmp_path):
    """Tokens, numbers and weights, bit for bit. Mutation: a sampling seed that depends on the task."""
    run_dir = tmp_path / "run"
    changes = settings(**ON_RAY, rollout__num_actors=1)
    assert run_cli("train", recipe, "--run-dir", run_dir, *changes) == 0
    assert_same_run(run_dir, whole)
    assert summary(run_dir)["eval"] == summary(whole)["eval"]


def test_actors_that_play_q_play_the_same_on_ray_also_one_that_takes_the_place_of_another(model, tmp_path):
    """Mutation: give the Q function to the actors of the beginning alone."""
    recipe = write_recipe(tmp_path / "guided.yaml", guided_recipe(model))
    assert run_cli("train", recipe, "--run-dir", tmp_path / "inline") == 0
    engine = {"name": f"{HERE}:OnceKilledEngine", "marker": str(tmp_path / "killed")}
    changes = settings(**ON_RAY, rollout__num_actors=2, rollout__engine=engine)
    assert run_cli("train", recipe, "--run-dir", tmp_path / "ray", *changes) == 0
    assert len(events(tmp_path / "ray", "actor_replaced")) == 1
    assert_same_run(tmp_path / "ray", tmp_path / "inline")
    assert summary(tmp_path / "ray")["eval"] == summary(tmp_path / "inline")["eval"]


def test_a_run_goes_on_when_an_actor_is_killed_and_is_the_same_run(recipe, whole, tmp_path):
    """Two actors, one killed while version 1 plays, equal one process that nothing disturbed.

    S16: every sample has its own score, and is there once. Mutation: give the next prompts out instead.
    """
    run_dir = tmp_path / "run"
    engine = {"name": f"{HERE}:OnceKilledEngine", "marker": str(tmp_path / "killed")}
    changes = settings(**ON_RAY, rollout__num_actors=2, rollout__engine=engine)
    assert run_cli("train", recipe, "--run-dir", run_dir, *changes) == 0
    assert (tmp_path / "killed").exists()
    (replaced,) = events(run_dir, "actor_replaced")
    assert "Actor" in replaced["reason"]
    assert [lost["reason"] for lost in events(run_dir, "task_lost")] == [replaced["reason"]]
    assert_same_run(run_dir, whole)
    assert_every_sample_has_its_own_score(run_dir)
    assert summary(run_dir)["dropped"] == {}


def assert_every_sample_has_its_own_score(run_dir):
    groups = list(read_parquet(run_dir / "trajectories"))
    assert len({g.key for g in groups}) == len(groups)
    for group in groups:
        expected = [by_id(f"{group.epoch}/{group.index}/{n}") for n in range(len(group.trajectories))]
        assert [score.parts["by_id"] for score in group.scores] == pytest.approx(expected)


def test_with_lag_actors_play_ahead_within_the_bound_and_stamps_are_those_of_dispatch(recipe, tmp_path):
    """S8e. Six updates of four groups; each group was drawn wholly by the version that it is stamped with."""
    run_dir = tmp_path / "run"
    changes = settings(**ON_RAY, rollout__num_actors=2, rollout__max_lag=2, run__num_updates=6)
    assert run_cli("train", recipe, "--run-dir", run_dir, *changes) == 0
    lags = Counter()
    for folder in (run_dir / "trajectories").iterdir():
        version = int(folder.name.partition("=")[2])
        groups = from_table(pq.read_table(folder / "groups.parquet", partitioning=None))
        assert len(groups) == 4
        for group in groups:
            drawn_by = {(t.policy_version_min, t.policy_version_max) for t in group.trajectories}
            assert drawn_by == {(group.policy_version, group.policy_version)}
            lags[version - group.policy_version] += 1
    assert sum(lags.values()) == 24
    assert max(lags) == summary(run_dir)["max_lag_seen"] <= 2
    assert [line["version"] for line in updates(run_dir)] == [1, 2, 3, 4, 5, 6]
    assert_every_sample_has_its_own_score(run_dir)


def test_without_lag_nothing_is_under_way_when_weights_come_in_flight(recipe, whole, tmp_path):
    """The same run, bit for bit, though weights come in a thread of their own."""
    changes = settings(**ON_RAY, rollout__num_actors=1, rollout__is_updating_in_flight=True)
    assert run_cli("train", recipe, "--run-dir", tmp_path / "run", *changes) == 0
    assert_same_run(tmp_path / "run", whole)


def test_new_weights_reach_an_actor_in_the_middle_of_its_completions(recipe, tmp_path):
    """Two tasks of the first measurement, two of the first update; the fifth waits for the weights that come
    of it, and the sixth begins with them.

    Mutations: let weights queue behind tasks; lose the versions on the way to the store.
    """
    run_dir = tmp_path / "run"
    changes = settings(
        **ON_RAY,
        rollout__num_actors=1,
        rollout__max_lag=1,
        rollout__is_updating_in_flight=True,
        rollout__engine={"name": f"{HERE}:OverlappedEngine", "number": 5},
        # No token ends a completion before its fourth: the id is none of the model's.
        rollout__sampling={"max_new_tokens": 4, "stop_token_ids": [10_000]},
        run__num_updates=2,
    )
    assert run_cli("train", recipe, "--run-dir", run_dir, *changes) == 0
    stored = {group.key: group for group in read_parquet(run_dir / "trajectories")}
    # Behind the prompt: four tokens, two of version 0 and two of version 1.
    drawn_by = Counter(t.policy_versions[-4:] for g in stored.values() for t in g.trajectories)
    assert drawn_by == {(0, 0, 1, 1): 4, (): 12}
    first, second = updates(run_dir)
    assert (first["lag/several_share"], first["lag/token_mean"]) == (0.0, 0.0)
    # Four samples of eight were drawn by both versions, half of their tokens by version 0.
    # The learner is at 1.
    assert (second["lag/several_share"], second["lag/token_mean"]) == (0.5, 0.25)
    assert (second["lag/mean"], second["lag/max"]) == (0.5, 1.0)
    assert_every_sample_has_its_own_score(run_dir)


def test_actors_that_always_die_end_the_run_by_name(recipe, tmp_path):
    run_dir = tmp_path / "run"
    engine = {"name": f"{HERE}:DyingEngine"}
    changes = settings(**ON_RAY, rollout__engine=engine, cluster__max_restarts=0)
    with pytest.raises(RuntimeError, match=r"actor 0 .*cluster\.max_restarts are used up"):
        run_cli("train", recipe, "--run-dir", run_dir, *changes)
    told = json.loads((run_dir / "postmortem.json").read_text())
    assert told["first_cause"]["message"].startswith("actor 0 ")
    assert [e["actor"] for e in events(run_dir, "actor_replaced")] == [0]
    assert summary(run_dir)["status"] == "failed"


def test_more_actors_than_the_cluster_has_cpus_are_refused_before_anything_is_written(
    recipe, tmp_path, capsys
):
    run_dir = tmp_path / "run"
    changes = settings(cluster__mode="ray", rollout__num_actors=9, cluster__cpus_per_actor=1000.0)
    assert run_cli("train", recipe, "--run-dir", run_dir, *changes) == 2
    said = capsys.readouterr().err
    # 9 actors x 1000 + 0.5 of the learner + 0.1 of the reward replica
    assert "rollout.num_actors 9" in said
    assert "need 9000.6 CPUs" in said
    assert "remedy: set rollout.num_actors" in said
    assert not run_dir.exists()


def test_a_resume_on_a_cluster_that_is_too_small_changes_no_file(whole, tmp_path, capsys):
    run_dir = shutil.copytree(whole, tmp_path / "run")
    text = (run_dir / "recipe.yaml").read_text()
    (run_dir / "recipe.yaml").write_text(
        text.replace("mode: inline", "mode: ray").replace("cpus_per_actor: 0.5", "cpus_per_actor: 1000.0")
    )
    # As a run that was killed leaves it: without a summary.
    (run_dir / "summary.json").unlink()
    before = tree(run_dir)
    assert run_cli("resume", run_dir) == 2
    assert "need 1000.6 CPUs" in capsys.readouterr().err
    assert tree(run_dir) == before
