"""The reward service as Ray Serve is given it by name: its parts, where they are placed, and its token."""

import pytest
import yaml

from antiphon.errors import UserError
from cluster.serve_application import Arguments, build
from reward_service.config import HttpConfig

TOKEN = HttpConfig().token_env


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"reward": {"components": [{"name": "exact_match"}]}}))
    return str(path)


def deployments(application):
    """Every deployment of an application by its name; a gateway is bound to its scorers."""
    bound = application._bound_deployment
    found = {bound.name: bound}
    for argument in bound.init_args:
        for inner in argument.values() if isinstance(argument, dict) else ():
            found |= deployments(inner)
    return found


def test_gateway_and_scorer_are_built_and_placed_on_the_nodes_for_rewards(recipe, monkeypatch):
    monkeypatch.setenv(TOKEN, "t" * 32)
    found = deployments(build(Arguments(recipe=recipe, resources={"reward": 0.1})))
    assert set(found) == {"Gateway", "CpuScorer"}
    assert [d.ray_actor_options["resources"] for d in found.values()] == [{"reward": 0.1}] * 2


def test_without_a_token_it_is_not_opened_to_other_machines(recipe, monkeypatch):
    monkeypatch.delenv(TOKEN, raising=False)
    with pytest.raises(UserError, match=TOKEN):
        build(Arguments(recipe=recipe))


def test_the_token_itself_is_not_part_of_what_is_deployed(recipe, monkeypatch):
    monkeypatch.setenv(TOKEN, "a-secret-that-nobody-sees")
    gateway = deployments(build(Arguments(recipe=recipe)))["Gateway"]
    assert "a-secret-that-nobody-sees" not in repr((gateway.init_args, gateway.init_kwargs))
