"""A person's mistake: one sentence with a remedy, exit code 2, no traceback, and no file changed."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.system.fakes_runs import HERE, events, run_cli, settings, tree, write_recipe


@pytest.fixture
def refused(recipe, tmp_path, capsys):
    """Runs a command that must be refused; returns what it said on stderr."""

    def refuse(*changes, command=("train",), source=recipe, run_dir=tmp_path / "run"):
        before = tree(run_dir)
        existed = run_dir.exists()
        code = run_cli(*command, source, "--run-dir", run_dir, *changes)
        return judge(code, capsys.readouterr().err, before, existed, run_dir)

    return refuse


def judge(code, said, before, existed, run_dir):
    assert code == 2, said
    first_words = [line.split(" ")[0] for line in said.splitlines()]
    assert [word for word in first_words if word in ("error:", "remedy:")] == ["error:", "remedy:"], said
    assert "Traceback" not in said
    assert (run_dir.exists(), tree(run_dir)) == (existed, before)
    return said


def changed(recipe, tmp_path, **sections):
    """A recipe file in which whole sections are other ones."""
    data = yaml.safe_load(recipe.read_text()) | sections
    return write_recipe(tmp_path / "changed.yaml", data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"run__seed": "one"}, ["run.seed", "'one'"]),
        ({"run__num_updates": -1}, ["run.num_updates is -1"]),
        ({"run__sed": 1}, ["run.sed is not a setting", "did you mean 'seed'?"]),
        ({"rollout__max_lagg": 1}, ["rollout.max_lagg is not a setting", "did you mean 'max_lag'?"]),
        ({"optimizer": {}}, ["optimizer is not a setting"]),
        ({"rollout__sampling__top_p": 0.9}, ["top_p"]),
        ({"rollout__groups_per_task": 3}, ["groups_per_update 4 is no multiple of the 3"]),
        ({"data__name": "sort_digit"}, ["'sort_digit'", "did you mean 'sort_digits'?"]),
        ({"data__num_digit": 2}, ["data.num_digit is not a setting", "did you mean 'num_digits'?"]),
        ({"algorithm__name": "pp0"}, ["'pp0'", "did you mean 'ppo'?"]),
        ({"algorithm__gama": 1.0}, ["algorithm.gama is not a setting", "did you mean 'gamma'?"]),
        ({"rollout__engine": {"name": "trch"}}, ["'trch'", "did you mean 'torch'?"]),
        ({"rollout__engine": {"name": "torch", "slots": 1}}, ["rollout.engine.slots is not a setting"]),
        (
            {
                "rollout__engine": {"name": f"{HERE}:UnreachableEngine"},
                "rollout__is_updating_in_flight": True,
            },
            ["rollout.is_updating_in_flight is true", "the unreachable engine takes weights only while"],
        ),
        ({"reward__components": [{"name": "exact_mach"}]}, ["'exact_mach'", "did you mean 'exact_match'?"]),
        ({"reward__components": [{"name": "nowhere.rewards:f"}]}, ["cannot be imported"]),
        ({"reward__components": [{"name": f"{HERE}:by_txt"}]}, ["did you mean 'by_text'?"]),
        ({"reward__components": [{"name": f"{HERE}:raises"}]}, ["raises", "this reward always fails"]),
        ({"evaluation__metric": "rouge9"}, ["evaluation.metric 'rouge9'", "by_text"]),
        ({"algorithm": {"name": "grpo"}, "rollout__num_samples": 1}, ["num_samples", "grpo"]),
        ({"model__name": "no/such/folder"}, ["there is no model"]),
        ({"rollout__sampling__max_new_tokens": 60}, ["64", "60"]),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_before_anything_starts(refused, change, words):
    said = refused(*settings(**change))
    assert [word for word in words if word not in said] == [], said


def test_a_recipe_that_is_not_there(refused, tmp_path):
    assert "cannot be read" in refused(source=tmp_path / "none.yaml")


@pytest.mark.parametrize(("text", "words"), [("run: [", "is not YAML"), ("", "holds no recipe")])
def test_a_recipe_that_is_no_recipe(refused, tmp_path, text, words):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    assert words in refused(source=path)


def test_an_override_without_a_value(refused):
    assert "is not key=value" in refused("--set", "run.seed")


def test_every_wrong_setting_is_named_at_once(refused):
    said = refused(*settings(run__sed=1, rollout__num_actors=0))
    assert "run.sed" in said
    assert "rollout.num_actors is 0" in said


def jsonl(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_data_file_that_is_not_there(refused, recipe, tmp_path):
    data = {"name": "jsonl", "path": str(tmp_path / "none.jsonl")}
    assert "none.jsonl" in refused(source=changed(recipe, tmp_path, data=data))


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_column_that_is_not_there_is_named_with_those_that_are(refused, recipe, tmp_path, kind):
    rows = [{"question": f"{n}", "answer": "a"} for n in range(9)]
    path = tmp_path / f"data.{kind}"
    if kind == "jsonl":
        jsonl(path, *rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    data = {"name": kind, "path": str(path), "prompt": "questoin", "reference": "answer", "num_held_out": 2}
    said = refused(source=changed(recipe, tmp_path, data=data))
    assert "questoin" in said
    assert "question" in said.replace("questoin", "")


def test_an_empty_data_set(refused, recipe, tmp_path):
    data = {"name": "jsonl", "path": str(jsonl(tmp_path / "empty.jsonl"))}
    assert "empty.jsonl" in refused(source=changed(recipe, tmp_path, data=data))


def test_a_prompt_that_does_not_fit_into_the_context(refused, recipe, tmp_path):
    rows = [{"prompt": f"{n} " + "long " * (20 if n == 7 else 1), "reference": "a"} for n in range(9)]
    data = {"name": "jsonl", "path": str(jsonl(tmp_path / "long.jsonl", *rows)), "num_held_out": 2}
    said = refused(source=changed(recipe, tmp_path, data=data))
    # 102 tokens (one per byte of "7 " + 20 * "long ") and 4 to come do not fit into 64.
    assert "102" in said
    assert "64" in said


@pytest.mark.parametrize(
    ("absent", "word"),
    [("tokenizer.json", "tokenizer"), ("config.json", "config.json"), ("model.safetensors", "weights")],
)
def test_a_model_folder_that_lacks_something(refused, model, tmp_path, absent, word):
    folder = shutil.copytree(model, tmp_path / "model")
    (folder / absent).unlink()
    said = refused(*settings(model__name=str(folder)))
    assert f"has no {word}" in said


def test_a_run_directory_that_holds_a_run_already(refused, whole):
    assert "already holds a run" in refused(run_dir=whole)


@pytest.mark.parametrize("command", [("resume",), ("eval",), ("eval", "--json"), ("chat",)])
def test_a_folder_without_a_run(tmp_path, capsys, command):
    code = run_cli(*command, tmp_path)
    assert "holds no run" in judge(code, capsys.readouterr().err, {}, True, tmp_path)


def test_a_run_without_a_checkpoint(whole, tmp_path, capsys):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    shutil.copy(whole / "recipe.yaml", run_dir)
    before = tree(run_dir)
    code = run_cli("resume", run_dir)
    said = judge(code, capsys.readouterr().err, before, True, run_dir)
    assert "no usable checkpoint" in said


def test_an_export_overwrites_nothing(whole, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    before = tree(tmp_path)
    code = run_cli("export", whole, tmp_path)
    assert "is not empty" in judge(code, capsys.readouterr().err, before, True, tmp_path)


def test_a_reward_that_starts_to_fail_ends_the_run_with_its_words(recipe, tmp_path, capsys):
    """It works on the trial: found only while training, so summary and post-mortem tell of it."""
    run_dir = tmp_path / "run"
    reward = settings(
        reward__components=[{"name": f"{HERE}:raises_on_training"}],
        rollout__probe_every_s=0.05,
        rollout__pause_deadline_s=0.3,
    )
    code = run_cli("train", recipe, "--run-dir", run_dir, *reward)
    out, said = capsys.readouterr()
    assert code == 2
    assert "could not be scored" in said
    assert "only samples of the training" in said
    assert "paused: 16 of the last 16 samples" in out
    assert json.loads((run_dir / "summary.json").read_text())["status"] == "failed"
    assert "only samples" in json.loads((run_dir / "postmortem.json").read_text())["first_cause"]["message"]
    (event,) = events(run_dir, "paused")
    assert "only samples of the training" in event["cause"]


def test_a_run_that_stopped_for_its_reward_goes_on_once_that_is_mended(recipe, tmp_path):
    """What was learned before is in a checkpoint, though none was due."""
    run_dir = tmp_path / "run"
    changes = settings(
        run__checkpoint_every=0,
        rollout__pause_deadline_s=0,
        reward__components=[{"name": f"{HERE}:raises_on_training", "label": "text"}],
    )
    assert run_cli("train", recipe, "--run-dir", run_dir, *changes) == 2
    path = run_dir / "recipe.yaml"
    path.write_text(path.read_text().replace("raises_on_training", "by_text"))
    assert run_cli("resume", run_dir) == 0
    told = json.loads((run_dir / "summary.json").read_text())
    assert (told["status"], told["version"]) == ("done", 4)
    # The window of 8 groups; each of the two tasks that were queued holds 2.
    assert 8 <= told["dropped"]["score_error"] <= 12
