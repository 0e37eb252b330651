"""RLlib's front door on real Ray: Tune drives trials, checkpoints carry them."""

import time
from pathlib import Path

import pytest

from antiphon.errors import UserError
from tests.system.fakes_runs import ROOT, read_json, small_recipe

ray = pytest.importorskip("ray")
from ray import serve, tune  # noqa: E402

from cluster import ray_session as session  # noqa: E402
from cluster.rllib import Antiphon, AntiphonConfig  # noqa: E402

pytestmark = pytest.mark.ray

SETTINGS = {"cluster.mode": "inline", "metrics.tensorboard": False, "metrics.prometheus_port": None}


@pytest.fixture(scope="module")
def cluster(ray_environment):
    """A private Ray cluster of two CPUs, whose workers find the packages."""
    runtime_env = {"env_vars": {"PYTHONPATH": str(ROOT)}}
    session.start(None, num_cpus=2, include_dashboard=False, runtime_env=runtime_env)
    yield
    ray.shutdown()


@pytest.fixture
def config(model):
    """The small recipe, measured after every update."""
    return AntiphonConfig().training(recipe=small_recipe(model), settings={**SETTINGS, "evaluation.every": 1})


def on_ray(config, **settings):
    return config.copy().training(settings={**config.settings, "cluster.mode": "ray", **settings})


def bundles(config):
    return Antiphon.default_resource_request(config.to_dict()).bundles


def test_a_trial_reserves_what_the_recipe_reserves(config):
    # Two actors of 0.5, the learner 0.5, the reward service 0.1 in the bundle of the trial's process.
    assert bundles(on_ray(config, **{"rollout.num_actors": 2})) == [{"CPU": 0.1}] + 3 * [{"CPU": 0.5}]
    assert bundles(on_ray(config, **{"cluster.learner_gpus": 1}))[1] == {"CPU": 0.5, "GPU": 1.0}
    # One process that is actor and learner in turn.
    assert bundles(config) == [{"CPU": 1.0}]


def test_a_wrong_setting_is_told_before_anything_starts(config):
    wrong = config.copy().training(settings={"learner.optimizer.lrr": 1e-4})
    with pytest.raises(UserError, match=r"learner\.optimizer\.lrr is not a setting"):
        wrong.validate()
    with pytest.raises(UserError, match="there is no recipe"):
        AntiphonConfig().validate()


def test_tune_runs_a_search_over_a_setting_of_the_recipe(cluster, config, tmp_path):
    space = config.copy().training(
        settings={**config.settings, "learner.optimizer.lr": tune.grid_search([1e-4, 1e-3])}
    )
    results = tune.Tuner(
        Antiphon,
        param_space=space,
        tune_config=tune.TuneConfig(metric="eval/reward", mode="max"),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path),
            stop={"training_iteration": 2},
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True),
            sync_config=tune.SyncConfig(sync_artifacts=True),
            verbose=0,
        ),
    ).fit()

    assert not results.errors
    assert sorted(r.config["settings"]["learner.optimizer.lr"] for r in results) == [1e-4, 1e-3]
    numbers = [r.metrics for r in results]
    assert [n["policy"]["version"] for n in numbers] == [2, 2]
    assert [n["eval"]["version"] for n in numbers] == [2, 2]
    assert len({n["weights_digest"] for n in numbers}) == 2, "the learning rate made no difference"
    assert all(n["num_env_steps_sampled_lifetime"] > 0 for n in numbers)
    assert len(list(tmp_path.rglob("run/metrics.jsonl"))) == 2, "the run directories did not travel"
    best = results.get_best_result()
    assert best.metrics["eval"]["reward"] == max(n["eval"]["reward"] for n in numbers)

    again = Antiphon.from_checkpoint(best.checkpoint.path)
    try:
        assert again.train()["policy"]["version"] == 3
    finally:
        again.stop()


def test_a_trial_on_ray_runs_inside_its_reservation(cluster, config, tmp_path):
    # The reservation takes all of the cluster, so a part that is outside of it can never start.
    tight = on_ray(config, **{"cluster.learner_cpus": 1.0, "cluster.cpus_per_actor": 0.9})
    assert sum(bundle["CPU"] for bundle in bundles(tight)) == 2.0
    results = tune.Tuner(
        Antiphon,
        param_space=tight,
        run_config=tune.RunConfig(storage_path=str(tmp_path), stop={"training_iteration": 1}, verbose=0),
    ).fit()

    assert not results.errors
    assert results[0].metrics["policy"]["version"] == 1
    assert_nothing_is_left()


def test_a_checkpoint_goes_on_as_if_never_stopped_here_and_on_ray(cluster, config, tmp_path):
    algorithm = config.build_algo()
    algorithm.train()
    algorithm.save_to_path(tmp_path)
    saved = algorithm._loop.weights_digest
    never_stopped = algorithm.train()["weights_digest"]
    assert never_stopped != saved

    algorithm.restore_from_path(tmp_path)
    assert algorithm._loop.weights_digest == saved
    assert algorithm.train()["weights_digest"] == never_stopped
    algorithm.stop()
    summaries = [read_json(p) for p in sorted(Path(algorithm.logdir).glob("run*/summary.json"))]
    assert [s["version"] for s in summaries] == [2, 2]

    elsewhere = on_ray(config).build_algo()
    try:
        elsewhere.restore_from_path(tmp_path)
        resumed = elsewhere.train()
    finally:
        elsewhere.stop()
    assert resumed["weights_digest"] == never_stopped
    assert (resumed["policy"]["version"], resumed["training_iteration"]) == (2, 2)
    assert_nothing_is_left()


def test_a_trial_is_done_when_the_updates_of_the_recipe_are(config):
    algorithm = config.copy().training(settings={**config.settings, "run.num_updates": 1}).build_algo()
    result = algorithm.train()
    assert result["done"]
    assert result["eval"]["version"] == 1
    with pytest.raises(UserError, match="1 updates are done"):
        algorithm.training_step()
    algorithm.stop()


def assert_nothing_is_left():
    """All CPUs are free again, and the reward service is gone."""
    deadline = time.monotonic() + 20.0
    while ray.available_resources().get("CPU", 0.0) < 2.0 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert ray.available_resources()["CPU"] == 2.0
    # Asked in a fresh process: here Serve may hold a client of a cluster that an earlier test has ended.
    applications = ray.remote(num_cpus=0)(lambda: list(serve.status().applications))
    assert ray.get(applications.remote(), timeout=30) == []
