"""Runs in one process: what other tools rely on, and runs that are ended and taken up again."""

import json
import signal

import pytest

from tests.system.fakes_runs import (
    HERE,
    assert_same_run,
    events,
    lines,
    run_cli,
    settings,
    start_program,
    summary,
    token_ids,
    tree,
    updates,
)

KEYS = {
    *(
        "status",
        "attempt",
        "version",
        "weights_digest",
        "prompts",
        "samples",
        "completion_tokens",
        "reward_first",
    ),
    *("reward_last", "eval", "wall_s", "phases_s", "dropped", "max_lag_seen", "recipe"),
}


def test_the_small_run_really_learns(whole):
    assert len({line["loss/policy"] for line in updates(whole)}) == 4
    assert all(line["grad_norm"] > 0 for line in updates(whole))


def test_the_summary_holds_every_promised_key(whole):
    told = summary(whole)
    assert set(told) == KEYS
    assert set(told["eval"]) == {"metric", "before", "after", "n"}
    # 4 updates of 4 prompts with 2 samples each; every held-out prompt once.
    assert (told["status"], told["version"], told["prompts"], told["samples"]) == ("done", 4, 16, 32)
    assert told["eval"]["n"] == 4
    assert told["dropped"] == {}
    assert told["max_lag_seen"] == 0
    assert told["recipe"]["run"]["num_updates"] == 4
    assert len(told["weights_digest"]) == 32


def test_the_summary_counts_what_was_drawn(whole):
    drawn = [n for line in updates(whole) for n in [line["rollout/completion_tokens"] * 8]]
    assert summary(whole)["completion_tokens"] == sum(drawn)
    assert len(token_ids(whole)) == 16


def test_overrides_of_the_command_line_change_the_run(recipe, tmp_path):
    run_dir = tmp_path / "run"
    changes = settings(
        run__num_updates=1,
        run__seed=2,
        run__checkpoint_every=0,
        cluster__mode="inline",
        rollout__num_actors=1,
        rollout__max_lag=0,
    )
    assert run_cli("train", recipe, "--run-dir", run_dir, *changes) == 0
    told = summary(run_dir)
    assert (told["version"], told["recipe"]["run"]["seed"]) == (1, 2)


def test_another_seed_is_another_run_and_the_same_seed_the_same(recipe, whole, tmp_path):
    same, other = tmp_path / "same", tmp_path / "other"
    assert run_cli("train", recipe, "--run-dir", same) == 0
    assert run_cli("train", recipe, "--run-dir", other, *settings(run__seed=2)) == 0
    assert_same_run(same, whole)
    assert summary(other)["weights_digest"] != summary(whole)["weights_digest"]


def test_a_second_run_of_a_name_gets_a_folder_of_its_own(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run_cli("train", recipe, *settings(run__num_updates=1)) == 0
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["small", "small-2"]


def test_what_a_run_writes_tells_where_to_go_on(recipe, tmp_path, capsys):
    run_dir = tmp_path / "run"
    run_cli("train", recipe, "--run-dir", run_dir, *settings(run__num_updates=1))
    out = capsys.readouterr().out
    assert "update 1" in out
    assert f"run directory: {run_dir}" in out
    assert f"next: antiphon chat {run_dir}" in out


def test_eval_prints_one_json_object_that_agrees_with_the_run(whole, capsys):
    assert run_cli("eval", whole, "--json") == 0
    told, ev = json.loads(capsys.readouterr().out), summary(whole)["eval"]
    assert told == {"metric": ev["metric"], "value": ev["after"], "n": ev["n"], "version": 4}


def test_killed_and_resumed_equals_never_stopped(recipe, whole, tmp_path):
    """Two updates, a kill -9, and two more are the same run as four updates."""
    run_dir = tmp_path / "killed"
    program = start_program(run_dir, "train", recipe, "--run-dir", run_dir)
    program.wait_for_checkpoint(2)
    code, _, _ = program.stop(signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert not (run_dir / "summary.json").exists()
    assert run_cli("resume", run_dir) == 0
    assert_same_run(run_dir, whole)


def test_an_update_that_is_made_again_after_a_resume_is_told_once(recipe, tmp_path):
    """The kill comes after update 3, the newest checkpoint is that of update 2."""
    run_dir = tmp_path / "killed"
    changes = settings(run__num_updates=5, run__checkpoint_every=2)
    program = start_program(run_dir, "train", recipe, "--run-dir", run_dir, *changes)
    metrics = run_dir / "metrics.jsonl"
    program.wait_for(lambda: metrics.exists() and '"version": 3' in metrics.read_text(), "update 3")
    program.stop(signal.SIGKILL)
    assert run_cli("resume", run_dir) == 0
    assert [line["version"] for line in updates(run_dir)] == [1, 2, 3, 4, 5]
    assert len(token_ids(run_dir)) == 20


LOSSY = settings(
    reward__components=[{"name": f"{HERE}:by_text"}, {"name": f"{HERE}:raises_sometimes", "weight": 0.1}]
)


@pytest.fixture(scope="module")
def lossy(recipe, tmp_path_factory):
    """A run that loses samples to failed scores."""
    run_dir = tmp_path_factory.mktemp("lossy") / "run"
    assert run_cli("train", recipe, "--run-dir", run_dir, *LOSSY) == 0
    return run_dir


def test_samples_without_a_score_are_left_out_and_told(lossy):
    told = summary(lossy)
    # Places 0 to 15, samples 0 and 1: sample 0 fails at 2, 6, 10 and 14, sample 1 at 1, 5, 9 and 13.
    assert (told["prompts"], told["samples"], told["dropped"]) == (16, 24, {})
    assert updates(lossy)[-1]["reward/failed_error_total"] == 8.0
    assert sum(len(event["samples"]) for event in events(lossy, "left_out")) == 8
    # Held-out place 2 of 4 has no score, at both measurements.
    assert told["eval"]["n"] == 3
    measured = [line for line in lines(lossy / "metrics.jsonl") if "eval/reward" in line]
    assert [line["eval/failed"] for line in measured] == [1.0, 1.0]


def test_what_is_trained_and_what_failed_are_all_that_was_drawn(lossy):
    stored = token_ids(lossy)
    assert sum(len(samples) for samples in stored.values()) == 24
    failed = {
        tuple(event["key"]): [s["sample"] for s in event["samples"]] for event in events(lossy, "left_out")
    }
    assert all(len(stored[key]) + len(numbers) == 2 for key, numbers in failed.items())


def test_a_run_that_loses_samples_is_the_same_when_it_is_killed_and_resumed(recipe, lossy, tmp_path):
    run_dir = tmp_path / "killed"
    program = start_program(run_dir, "train", recipe, "--run-dir", run_dir, *LOSSY)
    program.wait_for_checkpoint(2)
    program.stop(signal.SIGKILL)
    assert run_cli("resume", run_dir) == 0
    assert_same_run(run_dir, lossy)


def test_a_supervised_phase_is_stopped_at_once_and_made_anew_by_the_resume(recipe, tmp_path):
    run_dir, other = tmp_path / "stopped", tmp_path / "never_stopped"
    endless = settings(
        run__num_updates=1, warm_up={"num_steps": 10**6, "batch_size": 2, "schedule": "constant"}
    )
    program = start_program(run_dir, "train", recipe, "--run-dir", run_dir, *endless)
    program.wait_for((run_dir / "recipe.yaml").exists, "recipe.yaml")
    code, out, err = program.stop(signal.SIGINT)
    assert (code, summary(run_dir)["status"]) == (130, "interrupted"), (out, err)
    assert not (run_dir / "checkpoints").exists()
    path = run_dir / "recipe.yaml"
    path.write_text(path.read_text().replace("num_steps: 1000000", "num_steps: 3"))
    assert run_cli("resume", run_dir) == 0
    assert run_cli("train", path, "--run-dir", other) == 0
    assert_same_run(run_dir, other)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_saves_and_goes_on_later(recipe, tmp_path, number):
    run_dir = tmp_path / "stopped"
    changes = settings(run__num_updates=200, run__checkpoint_every=0)
    program = start_program(run_dir, "train", recipe, "--run-dir", run_dir, *changes)
    metrics = run_dir / "metrics.jsonl"
    program.wait_for(lambda: metrics.exists() and '"version": 1' in metrics.read_text(), "update 1")
    code, out, err = program.stop(number)
    told = summary(run_dir)
    assert (code, told["status"]) == (130, "interrupted"), (out, err)
    assert f"next: antiphon resume {run_dir}" in out
    assert "Traceback" not in err
    version = told["version"]
    assert 1 <= version < 200
    finish_soon(run_dir, version + 1)
    assert run_cli("resume", run_dir) == 0
    assert (summary(run_dir)["status"], summary(run_dir)["version"]) == ("done", version + 1)
    assert [line["version"] for line in updates(run_dir)] == list(range(1, version + 2))


def finish_soon(run_dir, num_updates):
    """Shorten the run, so that the test need not wait for its end."""
    recipe = run_dir / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("num_updates: 200", f"num_updates: {num_updates}"))


def test_a_run_that_is_stopped_before_its_first_measurement_makes_it_after_the_resume(recipe, tmp_path):
    """The stop is asked for while the model is still read."""
    run_dir = tmp_path / "early"
    program = start_program(run_dir, "train", recipe, "--run-dir", run_dir)
    program.wait_for((run_dir / "recipe.yaml").exists, "recipe.yaml")
    code, out, err = program.stop(signal.SIGINT)
    assert code == 130, (out, err)
    assert run_cli("resume", run_dir) == 0
    told = summary(run_dir)
    assert (told["status"], told["version"]) == ("done", 4)
    assert [line["version"] for line in lines(run_dir / "metrics.jsonl") if "eval/reward" in line] == [0, 4]


def test_a_finished_run_is_left_as_it_is(whole, capsys):
    before = tree(whole)
    assert run_cli("resume", whole) == 0
    assert "nothing to go on with" in capsys.readouterr().out
    assert tree(whole) == before
