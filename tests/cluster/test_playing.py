"""What is refused before a run because of the engine that is to draw it."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from antiphon.errors import UserError
from cluster.plan import build_algorithm
from cluster.playing import check_playing, describe_engine
from cluster.recipe import load_recipe
from rollout.engines.base import Engine
from rollout.engines.torch_engine import TorchEngine
from rollout.engines.vllm_engine import VllmEngine
from rollout.types import Sampling

RECIPES = Path(__file__).parents[2] / "recipes"
HAS_VLLM = importlib.util.find_spec("vllm") is not None


class Asked(Engine):
    """Can draw anything, and remembers what it was asked for."""

    name = "asked"
    temperatures: list[float]

    @classmethod
    def check(cls, sampling: Sampling) -> None:
        cls.temperatures.append(sampling.temperature)


def check(recipe: str, engine: Any, *overrides: str) -> None:
    loaded = load_recipe(RECIPES / recipe, overrides)
    check_playing(loaded, build_algorithm(loaded), engine)


def test_algorithms_with_a_q_function_are_refused_for_vllm_installed_or_not() -> None:
    for name in ("walks_dqn.yaml", "walks_ilql.yaml"):
        with pytest.raises(UserError, match="'vllm' cannot play the Q function") as refusal:
            check(name, VllmEngine)
        assert "torch" in refusal.value.remedy


@pytest.mark.skipif(HAS_VLLM, reason="vLLM is installed")
def test_where_vllm_is_not_installed_the_error_says_how_to_get_it() -> None:
    with pytest.raises(UserError, match="not installed here") as refusal:
        check("quickstart.yaml", VllmEngine)
    assert "pip install" in refusal.value.remedy


@pytest.mark.skipif(not HAS_VLLM, reason="vLLM is not installed here")
def test_where_vllm_is_installed_it_plays_what_it_can_draw() -> None:
    check("quickstart.yaml", VllmEngine)
    check("walks_soft_q.yaml", VllmEngine)
    with pytest.raises(UserError, match=r"sampling\.epsilon is 0\.1"):
        check("walks_soft_q.yaml", VllmEngine, "rollout.exploration.epsilon=0.1")


def test_an_engine_is_asked_about_training_exploring_and_measuring() -> None:
    Asked.temperatures = []
    schedule = "rollout.exploration.temperature={kind: linear, start: 2.0, end: 0.5, num_updates: 9}"
    check("walks_soft_q.yaml", Asked, schedule, "evaluation.temperature=0.0")
    # The learned policy's own, the least and the largest of the schedule, the measurement's.
    assert Asked.temperatures == [1.0, 0.5, 2.0, 0.0]


def test_an_engine_that_needs_something_says_so_in_the_report() -> None:
    assert describe_engine(TorchEngine) == {}
    assert set(describe_engine(VllmEngine)) == {"the engine vllm"}
