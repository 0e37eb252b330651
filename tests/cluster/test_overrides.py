"""What --set and a search space do to a recipe."""

from pathlib import Path

import pytest

from antiphon.errors import UserError
from cluster.recipe import apply_override, read_recipe, with_setting


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1.5E+3", 1500.0),
        ("2", 2),
        ("0.5", 0.5),
        ("null", None),
        ("1e5x", "1e5x"),
        ("[1, 2e-1]", [1, 0.2]),
    ],
)
def test_an_override_is_read_as_the_number_it_looks_like(text: str, value: object) -> None:
    assert apply_override({}, f"learner.optimizer.lr={text}") == {"learner": {"optimizer": {"lr": value}}}


def test_a_recipe_file_may_say_1e_minus_5(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("learner: {optimizer: {lr: 1e-5}}\n")

    assert read_recipe(path)["learner"]["optimizer"]["lr"] == 1e-5


def test_a_setting_reaches_into_lists_and_leaves_the_original_as_it_was() -> None:
    data = {"reward": {"components": [{"name": "a", "weight": 1.0}, {"name": "b", "weight": 1.0}]}}

    changed = with_setting(data, "reward.components.1.weight", 0.5)

    assert [c["weight"] for c in changed["reward"]["components"]] == [1.0, 0.5]
    assert data["reward"]["components"][1]["weight"] == 1.0


def test_a_path_through_a_number_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"'run\.seed\.x': 'x' leads nowhere"):
        with_setting({"run": {"seed": 3}}, "run.seed.x", 1)
