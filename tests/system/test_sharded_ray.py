"""A learner of two ranks on Ray: the run that one process makes, and the death of a rank."""

import pytest

from learner.ranks import RankError
from tests.system.fakes_runs import read_json, run_cli, settings, summary, token_ids, updates

ray_session = pytest.importorskip("cluster.ray_session")

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

TWO_RANKS = {
    "cluster__mode": "ray",
    "cluster__cpus_per_actor": 0.25,
    "learner__num_ranks": 2,
    "cluster__resources": {"learner": {"learner": 2.0}},
    # A process takes its time to import torch where much else is going on.
    "cluster__start_deadline_s": 600.0,
    # Several parts a step, so that both ranks have some.
    "learner__max_tokens_per_micro_batch": 32,
}


@pytest.fixture(scope="module", autouse=True)
def cluster(ray_environment):
    """Two nodes of Ray on this machine, each of which holds a rank."""
    from ray.cluster_utils import Cluster

    of_each = {"resources": {"learner": 1.0}, "object_store_memory": 100_000_000}
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, **of_each})
    try:
        nodes.add_node(num_cpus=1, **of_each)
        ray_environment.setenv("RAY_ADDRESS", nodes.address)
        with ray_session.connected():
            yield
    finally:
        nodes.shutdown()


def assert_same_but_for_rounding(run_dir, other):
    """Equal tokens; numbers of all updates to 1e-4."""
    assert token_ids(run_dir) == token_ids(other)
    ours, theirs = updates(run_dir), updates(other)
    assert len(ours) == len(theirs) == 4
    for one, two in zip(ours, theirs, strict=True):
        assert one.keys() == two.keys()
        assert one == pytest.approx(two, rel=1e-4, abs=1e-4)
    assert summary(run_dir)["eval"] == summary(other)["eval"]


def test_a_run_with_ranks_on_two_nodes_is_the_run_in_one_process(recipe, whole, tmp_path):
    """Weights travel whole, and actors that play them draw the same tokens in all four updates.

    Mutations: publish what the first rank holds; ask for learner 1.0 in all, which one node has.
    """
    algorithm = {"name": "tests.system.fakes_ranks:PlacedRank", "folder": str(tmp_path)}
    changes = settings(**TWO_RANKS, algorithm=algorithm)
    assert run_cli("train", recipe, "--run-dir", tmp_path / "run", *changes) == 0
    assert_same_but_for_rounding(tmp_path / "run", whole)
    assert (tmp_path / "rank_0").read_text() != (tmp_path / "rank_1").read_text()


def test_a_rank_that_is_killed_ends_the_run_by_name_and_one_rank_goes_on_from_its_checkpoint(
    recipe, whole, tmp_path
):
    """Saved by two ranks, resumed by one process. Mutation: leave the waiting to the first rank's answer."""
    run_dir = tmp_path / "run"
    algorithm = {"name": "tests.system.fakes_ranks:OnceKilledRank", "marker": str(tmp_path / "killed")}
    changes = settings(**TWO_RANKS, algorithm=algorithm)
    with pytest.raises(RankError, match="rank 1"):
        run_cli("train", recipe, "--run-dir", run_dir, *changes)
    told = read_json(run_dir / "postmortem.json")
    assert "rank 1" in told["error"]["message"]
    assert told["version"] == 2
    text = (run_dir / "recipe.yaml").read_text()
    assert ("mode: ray" in text, "num_ranks: 2" in text) == (True, True)
    (run_dir / "recipe.yaml").write_text(
        text.replace("mode: ray", "mode: inline").replace("num_ranks: 2", "num_ranks: 1")
    )
    assert run_cli("resume", run_dir) == 0
    assert_same_but_for_rounding(run_dir, whole)


def test_in_one_process_several_ranks_are_refused(recipe, tmp_path, capsys):
    assert run_cli("train", recipe, "--run-dir", tmp_path / "run", *settings(learner__num_ranks=2)) == 2
    said = capsys.readouterr().err
    assert "learner.num_ranks is 2, and with cluster.mode inline all is one process" in said
    assert "remedy: set cluster.mode ray" in said
