"""Every recipe that is shipped is in order, as far as that can be told without a download."""

import pytest

from antiphon import plugins
from antiphon.errors import UserError
from cluster.plan import build_algorithm, describe, prepare
from cluster.recipe import load_recipe, parse_recipe
from reward_service.lines import check_rewards
from rollout.engines.base import Engine
from rollout.prompts import PromptSource
from tests.system.fakes_runs import ROOT

# Those have commands of their own: tests/cluster/test_train_reward_model.py and test_train_choice.py.
OTHERS = ("reward_model", "answer_choice", "dialogue_acts")
RECIPES = sorted(path for path in (ROOT / "recipes").glob("*.yaml") if path.stem not in OTHERS)


@pytest.fixture(params=RECIPES, ids=lambda path: path.stem)
def path(request):
    return request.param


def test_there_are_recipes():
    assert ROOT / "recipes" / "quickstart.yaml" in RECIPES


def test_a_recipe_names_only_what_exists(path):
    recipe = load_recipe(path)
    build_algorithm(recipe)
    try:
        check_rewards(recipe.reward)
    except UserError as error:
        # A judge names a model; that the rest of its options fit was found before that.
        if not is_not_fetched(error):
            raise
    plugins.configure(Engine, "rollout.engines", recipe.rollout.engine, "rollout.engine")
    plugins.configure(PromptSource, "rollout.sources", recipe.data, "data")


def test_a_recipe_is_the_same_after_it_was_written_and_read(path):
    recipe = load_recipe(path)
    assert parse_recipe(recipe.to_dict()) == recipe


def test_a_recipe_says_in_its_first_line_what_it_is_for(path):
    assert path.read_text().startswith("# ")


def test_a_recipe_with_its_data_and_model_at_hand_is_in_order(path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(ROOT)
    recipe = load_recipe(path)
    try:
        plan = prepare(recipe)
    except UserError as error:
        if is_not_fetched(error):
            pytest.skip(f"{path.name}: {error.problem}; {error.remedy}")
        raise
    assert len(plan.train) >= recipe.num_fresh
    assert describe(plan)["the run"]["updates"] == recipe.run.num_updates


def is_not_fetched(error: UserError) -> bool:
    """Whether the recipe only lacks a model or data that a command of ours brings."""
    is_logged = "no trajectories are stored" in error.problem
    return is_logged or any(
        what in error.remedy for what in ("antiphon model get", "make_synopses", "make_wordle")
    )


def test_the_quickstart_keeps_its_promises():
    """Two actors, a critic, held-out prompts that are measured, and weights one update behind at most."""
    recipe = load_recipe(ROOT / "recipes" / "quickstart.yaml")
    assert (recipe.rollout.num_actors, recipe.rollout.max_lag, recipe.cluster.mode) == (2, 1, "ray")
    assert (recipe.algorithm["name"], recipe.evaluation.num_prompts) == ("ppo", 256)
    assert recipe.evaluation.metric == "exact_match"
