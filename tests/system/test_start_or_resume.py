"""`--resume-if-exists`: the same command starts a run, goes on with it, and knows when it is done."""

import shutil
import signal

import pytest

from cluster.start_or_resume import differences
from tests.system.fakes_runs import assert_same_run, run_cli, settings, start_program, summary, updates


@pytest.fixture
def train(recipe, tmp_path):
    """The command that is always the same; returns its exit code."""
    return lambda *changes: run_cli(
        "train", recipe, "--run-dir", tmp_path / "run", "--resume-if-exists", *changes
    )


def test_a_killed_run_goes_on_where_its_newest_checkpoint_is(train, recipe, whole, tmp_path):
    run_dir = tmp_path / "run"
    program = start_program(run_dir, "train", recipe, "--run-dir", run_dir, "--resume-if-exists")
    program.wait_for_checkpoint(2)
    program.stop(signal.SIGKILL)
    assert train() == 0
    assert_same_run(run_dir, whole)


def test_a_run_that_is_done_stays_as_it_is_and_that_is_no_failure(train, tmp_path, capsys):
    assert train(*settings(run__num_updates=1)) == 0
    before = (tmp_path / "run" / "summary.json").stat().st_mtime_ns
    assert train(*settings(run__num_updates=1)) == 0
    assert (tmp_path / "run" / "summary.json").stat().st_mtime_ns == before
    assert "done: version 1" in capsys.readouterr().out


def test_a_run_without_a_checkpoint_begins_again_and_tells_nothing_twice(train, whole, tmp_path, capsys):
    run_dir = tmp_path / "run"
    assert train() == 0
    # What a machine leaves that goes away before the first checkpoint.
    shutil.rmtree(run_dir / "checkpoints")
    (run_dir / "summary.json").unlink()
    assert train() == 0
    assert "begins again" in capsys.readouterr().out
    assert [line["version"] for line in updates(run_dir)] == [1, 2, 3, 4]
    assert_same_run(run_dir, whole)


def test_a_run_whose_checkpoints_are_all_damaged_is_not_thrown_away(train, tmp_path, capsys):
    assert train(*settings(run__num_updates=1)) == 0
    run_dir = tmp_path / "run"
    (run_dir / "summary.json").unlink()
    for manifest in run_dir.glob("checkpoints/*/manifest.json"):
        manifest.write_text("{")
    assert train() == 2
    assert "no usable checkpoint" in capsys.readouterr().err
    assert len(updates(run_dir)) == 1


def test_a_changed_recipe_is_not_taken_over_and_that_is_said(train, tmp_path, capsys):
    assert train(*settings(run__num_updates=1)) == 0
    assert train(*settings(run__num_updates=3)) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "not taken over: run.num_updates 3 (is 1)" in out
    assert summary(tmp_path / "run")["version"] == 1


def test_without_a_run_dir_it_is_the_one_of_the_run_s_name(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run_cli("train", recipe, "--resume-if-exists", *settings(run__num_updates=1)) == 0
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["small"]


def test_differences_name_settings_by_their_path_and_count_the_rest():
    old = {"run": {"seed": 1, "name": "a"}, "reward": {"components": [1]}, "watch": {}}
    assert differences(old, old) == ""
    new = {"run": {"seed": 2, "name": "a"}, "reward": {"components": [1, 2]}, "watch": {}}
    assert differences(old, new) == "reward.components [1, 2] (is [1]), run.seed 2 (is 1)"
    many = {"run": {f"k{i}": i for i in range(7)}}
    assert differences({"run": {f"k{i}": -1 for i in range(7)}}, many).endswith("and 2 more")
