"""Replay on Ray equals replay in one process, bit for bit: fresh groups, kept ones, those of other runs."""

import pytest

from cluster.recipe import load_recipe
from tests.system.fakes_learning import OFFLINE, ONLINE, QUICK, assert_same, replaying
from tests.system.fakes_runs import run_cli, settings, summary, token_ids

ray_session = pytest.importorskip("cluster.ray_session")

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def cluster(recipe, ray_environment):
    with ray_session.session(load_recipe(recipe)):
        yield


@pytest.fixture(scope="module")
def earlier(recipe, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("earlier") / "run"
    assert run_cli("train", recipe, "--run-dir", run_dir, *settings(reward=QUICK)) == 0
    return run_dir


@pytest.mark.parametrize(("replay", "num_stored"), [(ONLINE, 8), (OFFLINE, 0)])
def test_a_run_on_ray_equals_the_run_in_one_process(recipe, earlier, tmp_path, replay, num_stored):
    runs = {"inline": tmp_path / "inline", "ray": tmp_path / "ray"}
    replay = {**replay, "trajectories": [str(earlier)]}
    for mode, run_dir in runs.items():
        changes = replaying(replay, cluster__mode=mode, cluster__cpus_per_actor=0.25)
        assert run_cli("train", recipe, "--run-dir", run_dir, *changes) == 0
        assert summary(run_dir)["prompts"] == num_stored
    assert_same(runs["inline"], runs["ray"])
    if num_stored:
        assert token_ids(runs["inline"]) == token_ids(runs["ray"])
