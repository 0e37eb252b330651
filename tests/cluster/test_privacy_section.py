"""The section `privacy` reaches whoever shows or keeps a text, from recipes of runs and of services."""

import pytest

from antiphon.errors import UserError
from cluster.recipe import parse_recipe
from cluster.serve_rewards import load_rewards

ASKING = {"name": "human", "path": "ratings.sqlite"}


def recipe(**sections):
    return {
        "run": {"num_updates": 1},
        "data": {"name": "sort_digits"},
        "algorithm": {"name": "ppo"},
        "reward": {"components": [ASKING, {"name": "exact_match"}]},
        **sections,
    }


def test_it_is_handed_down_to_the_service_and_to_the_component_that_asks_people():
    """Mutation: parse_recipe without with_privacy shows raters what the run masks."""
    masked = parse_recipe(recipe(privacy={"mask": ["email"]}))
    assert masked.reward.privacy == masked.privacy
    human, exact = masked.reward.components
    assert human.options["privacy"] == {"mask": ["email"]}
    assert "privacy" not in exact.options
    assert parse_recipe(masked.to_dict()) == masked


def test_without_it_nothing_is_handed_down():
    plain = parse_recipe(recipe())
    assert plain.privacy.mask == ()
    assert "privacy" not in plain.reward.components[0].options


@pytest.mark.parametrize("place", ["top", "reward"])
def test_a_service_of_its_own_takes_it_from_the_same_file(tmp_path, place):
    """Mutation: load_rewards without with_privacy."""
    above = {"top": "privacy: {mask: [card]}\nreward:", "reward": "reward:\n  privacy: {mask: [card]}"}[place]
    path = tmp_path / "rewards.yaml"
    path.write_text(f"{above}\n  components: [{{name: human, path: {tmp_path}/r.sqlite}}]\n")
    config = load_rewards(path)
    assert config.privacy.mask == ("card",)
    assert config.components[0].options["privacy"]["mask"] == ["card"]


def test_two_that_differ_are_refused():
    rewards = {"privacy": {"mask": ["card"]}, "components": [{"name": "exact_match"}]}
    with pytest.raises(UserError, match=r"privacy and reward\.privacy differ"):
        parse_recipe(recipe(privacy={"mask": ["email"]}, reward=rewards))
