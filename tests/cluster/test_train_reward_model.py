"""`antiphon train-reward-model`: from a recipe and a file of pairs to a folder that a component reads."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import LlamaForCausalLM

from antiphon.errors import UserError
from cluster.train_reward_model import load_reward_model_recipe, publish, train_reward_model
from reward_service.building import build_reward
from reward_service.types import Sample
from tests.reward_service.fakes_networks import llama, save

RECIPE = Path(__file__).parents[2] / "recipes" / "reward_model.yaml"


@pytest.fixture
def recipe(tmp_path: Path) -> Any:
    """The shipped recipe on a small model and pairs of which the polite answer is the better one."""
    rows = [
        {"prompt": f"number {i % 20}?", "chosen": f"please: {i}", "rejected": f"no {i * 'x'}"}
        for i in range(40)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return load_reward_model_recipe(
        RECIPE,
        [
            f"model.name={save(tmp_path / 'lm', LlamaForCausalLM, llama())}",
            f"data.path={tmp_path / 'pairs.jsonl'}",
            "input.max_length=70",
            "training.num_epochs=5",
            "training.optimizer={lr: 0.003, head_lr: 0.03}",
            "training.num_threads=1",
        ],
    )


def test_what_was_trained_is_read_by_the_component(recipe: Any, tmp_path: Path) -> None:
    told: list[str] = []
    report = train_reward_model(recipe, tmp_path / "run", told.append)
    folder = tmp_path / "run" / "model"
    assert json.loads((folder / "report.json").read_text()) == report
    assert (folder / "calibration.svg").read_text().startswith("<svg")
    assert report["held_out"]["accuracy"] > 0.9
    assert report["left_out"]["too_long"] > 0
    assert report["num_train_prompts"] + report["held_out"]["num_prompts"] == 20
    assert report["input"] == {"form": "chat", "max_length": 70, "too_long": "refuse"}
    reward = build_reward("reward_model", {"model": str(folder), "is_normalized": True}, "reward")
    reward.start()
    polite, rude, long = reward.score(
        [
            Sample(id=str(i), prompt="number 3?", completion=text)
            for i, text in enumerate(("please: 7", "no xxx", "x" * 80))
        ]
    )
    assert polite.value is not None
    assert rude.value is not None
    assert polite.value > 0 > rude.value
    assert long.status == "invalid_input"
    assert any("held-out accuracy" in line for line in told)


def test_the_run_keeps_its_recipe_and_the_metrics_of_every_step(recipe: Any, tmp_path: Path) -> None:
    report = train_reward_model(recipe, tmp_path / "run", lambda line: None)
    kept = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert kept == recipe.model_dump(mode="json")
    steps = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [s["step"] for s in steps] == list(range(1, report["num_steps"] + 1))
    assert steps[-1]["loss"] < steps[0]["loss"]


def test_the_same_recipe_gives_the_same_model(recipe: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        train_reward_model(recipe, tmp_path / name, lambda line: None)
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]


def test_a_training_that_breaks_leaves_no_model(recipe: Any, tmp_path: Path) -> None:
    def broken(line: str) -> None:
        if line.startswith("step"):
            raise RuntimeError("the terminal is gone")

    with pytest.raises(RuntimeError):
        train_reward_model(recipe, tmp_path / "run", broken)
    assert not (tmp_path / "run" / "model").exists()


class FullDisk:
    """A tokenizer that cannot be saved."""

    def save_pretrained(self, folder: Path) -> None:
        raise OSError("no space left on device")


def test_a_model_that_cannot_be_saved_whole_does_not_appear(tmp_path: Path) -> None:
    model = LlamaForCausalLM(llama())
    with pytest.raises(OSError, match="no space"):
        publish(tmp_path / "model", model, FullDisk(), {})
    assert not (tmp_path / "model").exists()


def test_nothing_is_overwritten(recipe: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("precious")
    with pytest.raises(UserError, match="is not empty"):
        train_reward_model(recipe, tmp_path / "run", lambda line: None)
    assert (tmp_path / "run" / "recipe.yaml").read_text() == "precious"


def test_a_mistake_in_the_recipe_is_told() -> None:
    with pytest.raises(UserError, match=r"training\.num_epoch is not a setting") as caught:
        load_reward_model_recipe(RECIPE, ["training.num_epoch=2"])
    assert "did you mean 'num_epochs'" in caught.value.remedy
