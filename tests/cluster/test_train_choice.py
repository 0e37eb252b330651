"""`antiphon train-choice`: from files of transitions to a folder that chooses; stopped, resumed, refused."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import LlamaForCausalLM
from typer.testing import CliRunner

from antiphon.errors import UserError
from antiphon.lease import Lease, Superseded
from cluster.choice_recipe import ChoiceRecipe, load_choice_recipe
from cluster.cli import app
from cluster.recipe import load_recipe
from cluster.train_choice import is_choice_run, resume_choice, train_choice
from learner.choice.chooser import load_chooser
from learner.choice.transitions import read_choices, read_transitions
from tests.learner.fakes_choice import RECIPES, script
from tests.reward_service.fakes_networks import llama, save

COLOURS = ("red", "blue", "green")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save(tmp_path_factory.mktemp("lm"), LlamaForCausalLM, llama())


@pytest.fixture
def overrides(tmp_path: Path, model: str) -> list[str]:
    """The shipped recipe on a small model: what is asked for is to be given; held-out states are new ones."""
    tried = [
        {
            "state": f"{colour} please, {i}",
            "actions": list(COLOURS),
            "action": c,
            "reward": float(c == colour),
        }
        for i in range(12)
        for colour in COLOURS
        for c in COLOURS
    ]
    held_out = [
        {"state": f"{colour} please, {i}", "actions": list(COLOURS), "values": [c == colour for c in COLOURS]}
        for i in range(20, 24)
        for colour in COLOURS
    ]
    for row in held_out:
        row["values"] = [float(value) for value in row["values"]]
    write(tmp_path / "tried.jsonl", tried)
    write(tmp_path / "held_out.jsonl", held_out)
    return [
        f"encoder.model={model}",
        "encoder.device=cpu",
        f"data.paths=[{tmp_path / 'tried.jsonl'}]",
        f"evaluation.paths=[{tmp_path / 'held_out.jsonl'}]",
        "network={rank: 8, hidden_size: 16, dropout: 0.1}",
        "training.optimizer={head_lr: 0.01}",
        "training.num_threads=1",
        "training.batch_size=32",
    ]


def write(path: Path, rows: list[Any]) -> None:
    path.write_text("\n".join(json.dumps(row) for row in rows))


def recipe_of(overrides: list[str], *more: str) -> ChoiceRecipe:
    return load_choice_recipe(RECIPES / "answer_choice.yaml", [*overrides, *more])


def lines(run: Path) -> list[dict[str, Any]]:
    """The metrics of a run without the times."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "time"} for row in rows]


def quiet(line: str) -> None:
    """Nobody is told anything."""


def test_what_was_trained_chooses(overrides: list[str], tmp_path: Path) -> None:
    told: list[str] = []
    recipe = recipe_of(overrides, "run.num_updates=150", "evaluation.every=50")
    summary = train_choice(recipe, tmp_path / "run", told.append)
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary
    assert (summary["status"], summary["version"]) == ("done", 150)
    assert (summary["num_transitions"], summary["num_choices"], summary["num_choices_seen"]) == (108, 12, 0)
    # 36 + 12 states and three actions.
    assert summary["num_texts"] == 51
    assert summary["eval"]["before"]["accuracy"] == pytest.approx(1 / 3)
    assert summary["eval"]["after"]["accuracy"] == 1.0
    assert summary["baselines"]["chance"] == pytest.approx(1 / 3)
    # The words tell: "red" stands in "red please".
    assert summary["baselines"]["shared_words"] == 1.0
    chooser = load_chooser(tmp_path / "run" / "model")
    assert [chooser.choose(f"{colour} please, 31", COLOURS) for colour in COLOURS] == [0, 1, 2]
    assert any("held-out accuracy 1.0000 (n 12)" in line for line in told)
    assert yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text()) == recipe.model_dump(mode="json")


def test_every_update_and_every_measurement_is_a_line(overrides: list[str], tmp_path: Path) -> None:
    train_choice(recipe_of(overrides, "run.num_updates=6", "evaluation.every=2"), tmp_path / "run", quiet)
    rows = lines(tmp_path / "run")
    assert [row["version"] for row in rows if "q/loss" in row] == [1, 2, 3, 4, 5, 6]
    assert [row["version"] for row in rows if "eval/accuracy" in row] == [0, 2, 4, 6]


def test_without_choices_nothing_is_measured(overrides: list[str], tmp_path: Path) -> None:
    recipe = recipe_of(overrides, "run.num_updates=2", "evaluation.paths=[]")
    summary = train_choice(recipe, tmp_path / "run", quiet)
    assert (summary["eval"], summary["baselines"]) == ({"before": None, "after": None}, {})
    assert (tmp_path / "run" / "model" / "choice.json").exists()


@pytest.mark.parametrize("is_trained", ["false", "true"])
def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(
    is_trained: str, overrides: list[str], tmp_path: Path
) -> None:
    def told(line: str) -> None:
        if line.startswith("update 8/"):
            raise RuntimeError("the machine is gone")

    more = ("run.num_updates=10", "run.checkpoint_every=3", "evaluation.every=4")
    recipe = recipe_of(overrides, *more, f"encoder.is_trained={is_trained}", "training.batch_size=8")
    whole = train_choice(recipe, tmp_path / "whole", quiet)
    with pytest.raises(RuntimeError):
        train_choice(recipe, tmp_path / "parts", told)
    assert json.loads((tmp_path / "parts" / "summary.json").read_text())["status"] == "failed"
    assert (tmp_path / "parts" / "postmortem.json").exists()
    resumed = resume_choice(tmp_path / "parts", quiet)
    assert resumed["eval"] == whole["eval"]
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")
    weights = [tmp_path / run / "model" / "choice.safetensors" for run in ("whole", "parts")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    events = (tmp_path / "parts" / "events.jsonl").read_text().splitlines()
    assert [json.loads(e)["version"] for e in events if json.loads(e)["event"] == "resumed"] == [6]


def test_a_run_that_is_asked_to_stop_saves_and_can_go_on(overrides: list[str], tmp_path: Path) -> None:
    def told(line: str) -> None:
        if line.startswith("update 4/"):
            os.kill(os.getpid(), signal.SIGINT)

    recipe = recipe_of(overrides, "run.num_updates=10", "evaluation.every=0")
    stopped = train_choice(recipe, tmp_path / "run", told)
    assert (stopped["status"], stopped["version"]) == ("interrupted", 4)
    assert not (tmp_path / "run" / "model").exists()
    resumed = resume_choice(tmp_path / "run", quiet)
    assert (resumed["status"], resumed["version"]) == ("done", 10)
    assert resumed["wall_s"] >= stopped["wall_s"]
    assert [row["version"] for row in lines(tmp_path / "run") if "q/loss" in row] == list(range(1, 11))
    assert resume_choice(tmp_path / "run", quiet) == resumed
    assert is_choice_run(tmp_path / "run")


def test_a_run_that_another_attempt_has_taken_over_writes_nothing_more(
    overrides: list[str], tmp_path: Path
) -> None:
    """Mutation: the line of an update, or the post-mortem, is written without a look."""
    run, before = tmp_path / "run", {}

    def told(line: str) -> None:
        if line.startswith("update 3/"):
            Lease.next_of(run).claim()
            before.update({p: p.read_bytes() for p in run.rglob("*") if p.is_file()})

    with pytest.raises(Superseded, match="attempt 2"):
        train_choice(recipe_of(overrides, "run.num_updates=10", "run.checkpoint_every=2"), run, told)
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
    assert resume_choice(run, quiet)["attempt"] == 3


def test_a_run_does_not_go_on_with_other_data(overrides: list[str], tmp_path: Path) -> None:
    def told(line: str) -> None:
        if line.startswith("update 4/"):
            raise RuntimeError

    recipe = recipe_of(overrides, "run.num_updates=10", "run.checkpoint_every=2")
    with pytest.raises(RuntimeError):
        train_choice(recipe, tmp_path / "run", told)
    path = tmp_path / "tried.jsonl"
    path.write_text(path.read_text().replace('"reward": 0.0', '"reward": 0.5', 1))
    with pytest.raises(UserError, match="not what it was"):
        resume_choice(tmp_path / "run", quiet)


def test_nothing_is_overwritten_and_what_is_refused_leaves_no_run(
    overrides: list[str], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="num_layers is 9"):
        train_choice(recipe_of(overrides, "encoder.num_layers=9"), tmp_path / "run", quiet)
    assert not (tmp_path / "run" / "recipe.yaml").exists()
    recipe = recipe_of(overrides, "run.num_updates=1")
    train_choice(recipe, tmp_path / "run", quiet)
    before = (tmp_path / "run" / "summary.json").read_text()
    with pytest.raises(UserError, match="already holds a run"):
        train_choice(recipe, tmp_path / "run", quiet)
    assert (tmp_path / "run" / "summary.json").read_text() == before
    with pytest.raises(UserError, match="holds no run"):
        resume_choice(tmp_path / "nowhere", quiet)


def test_vectors_are_shared_between_runs(overrides: list[str], tmp_path: Path) -> None:
    told: list[str] = []
    folder = f"vectors.folder={tmp_path / 'shared'}"
    for name in ("a", "b"):
        train_choice(recipe_of(overrides, "run.num_updates=1", folder), tmp_path / name, told.append)
    assert [line for line in told if "encoded" in line] == ["51/51 texts encoded"]


@pytest.mark.parametrize("name", ["answer_choice", "dialogue_acts"])
def test_the_shipped_recipes_are_in_order(name: str) -> None:
    path = RECIPES / f"{name}.yaml"
    recipe = load_choice_recipe(path)
    assert recipe.run.name == name
    assert path.read_text().startswith("# ")
    assert recipe.evaluation.paths == (Path(f"data/{name}/held_out.jsonl"),)
    assert ChoiceRecipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_a_mistake_in_the_recipe_is_told() -> None:
    with pytest.raises(UserError, match=r"learning\.gama is not a setting") as caught:
        load_choice_recipe(RECIPES / "answer_choice.yaml", ["learning.gama=0.5"])
    assert "did you mean 'gamma'" in caught.value.remedy


@pytest.mark.parametrize("kind", ["other", "near", "numbers"])
def test_the_script_makes_questions_with_one_right_answer(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {
            "question": f"How many legs have {i} dogs?",
            "answer": f"{i} * 4 = <<{i}*4={4 * i}>>{4 * i}\n#### {4 * i}",
        }
        for i in range(30)
    ]
    write(tmp_path / "rows.jsonl", rows)
    options = f"--out {tmp_path / 'made'} --num-train 20 --num-held-out 10 --num-tries 2 --wrong {kind}"
    monkeypatch.setattr("sys.argv", ["make", str(tmp_path / "rows.jsonl"), *options.split()])
    assert script("make_answer_choice").main() == 0
    transitions = read_transitions([tmp_path / "made" / "transitions.jsonl"])
    choices = read_choices([tmp_path / "made" / "held_out.jsonl"])
    assert (len(transitions), len(choices)) == (40, 10)
    for t in transitions:
        legs = 4 * int(t.state.split()[4])
        assert (t.reward == 1.0) == (t.actions[t.taken] == f"{legs // 4} * 4 = {legs}\nThe answer is {legs}")
        assert len(set(t.actions)) == len(t.actions) == 4
    for c in choices:
        assert sorted(c.values) == [0.0, 0.0, 0.0, 1.0]
    assert not {t.state for t in transitions} & {c.state for c in choices}


def test_too_few_questions_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "rows.jsonl", [{"en": "a", "de": "b"}, {"en": "a", "de": "c"}])
    options = f"--out {tmp_path / 'made'} --keys en de --num-train 1 --num-held-out 1"
    monkeypatch.setattr("sys.argv", ["make", str(tmp_path / "rows.jsonl"), *options.split()])
    # The same question twice is one.
    assert script("make_answer_choice").main() == 1
    assert not (tmp_path / "made").exists()


def test_the_nearest_questions_share_rare_words() -> None:
    texts = ["a red fox", "the red dog", "that blue bird", "one more fox", *(f"word{i}" for i in range(30))]
    assert script("make_answer_choice").nearest(texts, 2)[0] == [3, 1]


def test_talks_end_as_they_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["make", "--out", str(tmp_path), "--num-train", "50"])
    desk = script("make_dialogue_acts")
    assert desk.main() == 0
    transitions = read_transitions([tmp_path / "transitions.jsonl"])
    choices = read_choices([tmp_path / "held_out.jsonl"])
    assert sum(t.is_done for t in transitions) == 50
    assert {t.reward for t in transitions if not t.is_done} == {0.0}
    assert {t.reward for t in transitions if t.actions[t.taken] == desk.VOUCHER} == {0.5}
    assert not {t.state for t in transitions} & {c.state for c in choices}
    torn = next(c for c in choices if c.state.count("\n") == 0)
    assert sorted(torn.values) == pytest.approx([0.5, 0.81, 0.81, 0.9])


def test_the_commands_train_resume_and_tell_the_recipes_apart(overrides: list[str], tmp_path: Path) -> None:
    recipe, run = RECIPES / "answer_choice.yaml", tmp_path / "run"
    settings = [part for value in [*overrides, "run.num_updates=3"] for part in ("--set", value)]
    trained = CliRunner().invoke(app, ["train-choice", str(recipe), "--run-dir", str(run), *settings])
    assert trained.exit_code == 0, trained.output
    assert "held-out accuracy" in trained.output
    assert load_chooser(run / "model") is not None
    again = CliRunner().invoke(app, ["resume", str(run)])
    assert (again.exit_code, "is done: there is nothing to go on with" in again.output) == (0, True)
    with pytest.raises(UserError, match="for choosing between texts") as refused:
        load_recipe(recipe)
    assert refused.value.remedy == f"antiphon train-choice {recipe}"
