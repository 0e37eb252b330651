"""Runs that learn from what they keep and from what earlier runs left: offline, mixed, stopped, resumed."""

import json
import shutil
import signal

import pytest

from rollout.trajectories import read_parquet
from tests.system.fakes_learning import OFFLINE, ONLINE, QUICK, assert_same, replaying
from tests.system.fakes_runs import (
    run_cli,
    settings,
    start_program,
    summary,
    token_ids,
    updates,
)


def lengthen(run_dir):
    """Two more updates for a run of two that has ended."""
    recipe = run_dir / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("num_updates: 2", "num_updates: 4"))
    (run_dir / "summary.json").unlink()


@pytest.fixture(scope="module")
def earlier(recipe, tmp_path_factory):
    """A PPO run of 16 groups with 2 samples each, and what it left."""
    run_dir = tmp_path_factory.mktemp("earlier") / "run"
    assert run_cli("train", recipe, "--run-dir", run_dir, *settings(reward=QUICK)) == 0
    return run_dir


@pytest.fixture(scope="module")
def online(recipe, tmp_path_factory):
    """Half of each batch is fresh, the other half drawn from what was kept."""
    run_dir = tmp_path_factory.mktemp("online") / "run"
    assert run_cli("train", recipe, "--run-dir", run_dir, *replaying(ONLINE)) == 0
    return run_dir


@pytest.fixture(scope="module")
def offline(recipe, earlier, tmp_path_factory):
    """Nothing is fresh: all is from the trajectories that a PPO run left."""
    run_dir = tmp_path_factory.mktemp("offline") / "run"
    changes = replaying({**OFFLINE, "trajectories": [str(earlier)]})
    assert run_cli("train", recipe, "--run-dir", run_dir, *changes) == 0
    return run_dir


def test_what_is_fresh_is_counted_and_stored_once(online):
    result = summary(online)
    # 4 updates of 2 fresh prompts with 2 samples each.
    assert (result["prompts"], result["samples"], result["dropped"]) == (8, 16, {})
    assert len(token_ids(online)) == 8
    assert [line["rollout/prompts_total"] for line in updates(online)] == [2, 4, 6, 8]
    assert [line["rollout/lag_max"] for line in updates(online)] == [0, 0, 0, 0]


def test_the_rest_of_a_batch_is_drawn_from_what_was_kept(online):
    assert [line["replay/batch_groups"] for line in updates(online)] == [2.0, 4.0, 4.0, 4.0]
    assert [line["replay/fresh_share"] for line in updates(online)] == [1.0, 0.5, 0.5, 0.5]
    assert [line["replay/groups"] for line in updates(online)] == [2.0, 4.0, 6.0, 8.0]
    assert updates(online)[-1]["replay/age_mean"] > 0
    assert updates(online)[-1]["replay/importance_min"] < 1


def test_offline_nothing_is_rolled_out_but_for_the_evaluation(offline, earlier):
    result = summary(offline)
    assert (result["status"], result["version"], result["prompts"], result["samples"]) == ("done", 4, 0, 0)
    assert result["eval"]["n"] == 4
    assert result["reward_last"] is None
    assert not list((offline / "trajectories").glob("**/*.parquet"))
    assert all(line["replay/logged_share"] == 1.0 for line in updates(offline))
    assert "lag/mean" not in updates(offline)[0]
    # All 16 groups of the other run are at hand.
    assert updates(offline)[-1]["replay/groups"] == 16.0
    assert len({line["loss/q"] for line in updates(offline)}) == 4


def test_a_store_says_whose_token_ids_it_holds(online, earlier):
    import pyarrow.parquet as pq

    names = {
        pq.ParquetFile(path).schema_arrow.metadata[b"tokenizer"]
        for run in (online, earlier)
        for path in run.glob("trajectories/*/*.parquet")
    }
    assert len(names) == 1
    assert len(next(iter(names))) == 16


@pytest.mark.parametrize("is_offline", [False, True])
def test_killed_and_resumed_equals_never_stopped(recipe, online, offline, earlier, tmp_path, is_offline):
    run_dir = tmp_path / "killed"
    replay = {**OFFLINE, "trajectories": [str(earlier)]} if is_offline else ONLINE
    program = start_program(run_dir, "train", recipe, "--run-dir", run_dir, *replaying(replay))
    program.wait_for_checkpoint(2)
    code, _, _ = program.stop(signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert run_cli("resume", run_dir) == 0
    assert_same(run_dir, offline if is_offline else online)


def test_logged_and_fresh_groups_are_mixed(recipe, earlier, online, tmp_path):
    run_dir = tmp_path / "mixed"
    changes = replaying(ONLINE, data__trajectories=f"{earlier},{online}")
    assert run_cli("train", recipe, "--run-dir", run_dir, *changes) == 0
    resolved = summary(run_dir)["recipe"]
    assert resolved["replay"]["trajectories"] == [str(earlier), str(online)]
    assert "trajectories" not in resolved["data"]
    # Of the first batch, 2 are fresh and 2 logged; later 1 of the 2 others is logged.
    assert [line["replay/logged_share"] for line in updates(run_dir)] == [0.5, 0.25, 0.25, 0.25]
    # 16 and 8 logged groups, and 2 of the run's own at each update.
    assert [line["replay/groups"] for line in updates(run_dir)] == [26.0, 28.0, 30.0, 32.0]
    assert len(list(read_parquet(run_dir / "trajectories"))) == 8


def test_paths_of_stores_hold_from_another_folder(recipe, earlier, offline, tmp_path, monkeypatch):
    run_dir = tmp_path / "run"
    monkeypatch.chdir(earlier.parent)
    changes = replaying({**OFFLINE, "trajectories": [earlier.name]}, run__num_updates=2)
    assert run_cli("train", recipe, "--run-dir", run_dir, *changes) == 0
    monkeypatch.chdir(tmp_path)
    lengthen(run_dir)
    assert run_cli("resume", run_dir) == 0
    assert_same(run_dir, offline)


def test_an_offline_run_is_stopped_and_goes_on_later(recipe, earlier, tmp_path):
    run_dir = tmp_path / "stopped"
    changes = replaying({**OFFLINE, "trajectories": [str(earlier)]}, run__num_updates=100000)
    program = start_program(run_dir, "train", recipe, "--run-dir", run_dir, *changes)
    program.wait_for_checkpoint(1)
    code, out, err = program.stop(signal.SIGINT)
    assert (code, summary(run_dir)["status"]) == (130, "interrupted"), (out, err)
    assert f"next: antiphon resume {run_dir}" in out


@pytest.mark.parametrize("is_offline", [False, True])
def test_check_takes_a_small_step_from_what_there_is(recipe, earlier, capsys, is_offline):
    replay = {**OFFLINE, "trajectories": [str(earlier)]} if is_offline else ONLINE
    assert run_cli("check", recipe, *replaying(replay)) == 0
    out = capsys.readouterr().out
    assert "one small step through every stage, saved and loaded: ok" in out
    assert "groups drawn from the replay" in out
    assert ("32 in 4 files" in out) == is_offline


@pytest.mark.parametrize(
    ("replay", "words"),
    [
        ({"name": "uniform", "num_fresh": 6}, ["replay.num_fresh is 6, a batch has 4 groups"]),
        ({"name": "uniform", "num_fresh": 4}, ["all 4 groups of a batch are fresh"]),
        ({"name": "uniform"}, ["all 4 groups of a batch are fresh"]),
        ({"name": "uniform", "num_fresh": 0}, ["no logged trajectories to learn from"]),
        (
            {"name": "uniform", "num_fresh": 3},
            ["replay.num_fresh 3 is no multiple of the 2 groups of a task"],
        ),
        ({"name": "unifrm", "num_fresh": 2}, ["'unifrm'", "did you mean 'uniform'?"]),
        ({"name": "uniform", "num_fersh": 2}, ["replay.num_fersh is not a setting", "'num_fresh'"]),
        ({"name": "queue", "num_fresh": 2}, ["replay.num_fresh is not a setting"]),
        ({"num_fresh": 2}, ["replay has no name"]),
        ({"name": "uniform", "num_fresh": 0, "trajectories": ["nowhere"]}, ["no trajectories are stored in"]),
        ({"name": "prioritized", "num_fresh": 2, "alpha": 2.0}, ["replay.alpha is 2.0"]),
    ],
)
def test_a_replay_that_cannot_be_is_refused(recipe, tmp_path, capsys, replay, words):
    assert run_cli("train", recipe, "--run-dir", tmp_path / "run", *replaying(replay)) == 2
    said = capsys.readouterr().err
    assert [word for word in words if word not in said] == [], said
    assert "remedy:" in said
    assert not (tmp_path / "run").exists()


def test_an_algorithm_that_needs_fresh_data_is_given_no_other(recipe, earlier, tmp_path, capsys):
    changes = settings(data__trajectories=str(earlier))
    assert run_cli("train", recipe, "--run-dir", tmp_path / "run", *changes) == 2
    assert "ppo learns only from what its own policy drew just now" in capsys.readouterr().err


def test_logged_data_is_named_once(recipe, earlier, tmp_path, capsys):
    changes = replaying({**OFFLINE, "trajectories": [str(earlier)]}, data__trajectories=str(earlier))
    assert run_cli("train", recipe, "--run-dir", tmp_path / "run", *changes) == 2
    assert "data.trajectories and replay.trajectories are both set" in capsys.readouterr().err


def test_logged_data_of_another_tokenizer_is_refused(recipe, earlier, tmp_path, capsys):
    changes = replaying({**OFFLINE, "trajectories": [str(earlier)]}, model={"name": "gpt2-walks"})
    assert run_cli("train", recipe, "--run-dir", tmp_path / "run", *changes) == 2
    said = capsys.readouterr().err
    assert "are of the tokenizer" in said
    assert "the model of this run has the tokenizer" in said


def test_logged_data_that_is_gone_stops_a_resume_with_a_sentence(recipe, earlier, tmp_path, capsys):
    store, run_dir = tmp_path / "store", tmp_path / "run"
    shutil.copytree(earlier / "trajectories", store)
    changes = replaying({**OFFLINE, "trajectories": [str(store)]}, run__num_updates=2)
    assert run_cli("train", recipe, "--run-dir", run_dir, *changes) == 0
    lengthen(run_dir)
    shutil.rmtree(store / "version=000001")
    capsys.readouterr()
    assert run_cli("resume", run_dir) == 2
    assert "are not as they were when the checkpoint was written" in capsys.readouterr().err


def test_a_checkpoint_holds_the_replay_as_tables(online):
    folder = sorted((online / "checkpoints").iterdir())[-1] / "replay"
    assert {p.name for p in folder.iterdir()} == {
        *("own.parquet", "own_entries.parquet", "state.json", "waiting.parquet")
    }
    assert json.loads((folder / "state.json").read_text())["window"] is None
