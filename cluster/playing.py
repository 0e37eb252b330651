"""Whether what actors are asked to play fits the algorithm that learns from it and the engine that draws it;
and what a Q function costs."""

from typing import Any

import torch
from torch import nn

from antiphon.errors import UserError
from antiphon.schedules import bounds
from cluster.recipe import Recipe
from learner.algorithms.base import Algorithm
from learner.mismatch import check_sampling
from rollout.engines.base import Engine
from rollout.models import load_config
from rollout.q_function import QFunction
from rollout.types import Sampling


def check_playing(recipe: Recipe, algorithm: Algorithm, engine: type[Engine]) -> None:
    """
    Raises:
        UserError: sampling that the learner cannot learn from, β without a Q function to weigh, or an engine
            that cannot play one, is not installed, cannot draw like this, or takes no weights in flight.
    """
    name = recipe.algorithm["name"]
    if algorithm.plays_q and not engine.can_play_q:
        raise UserError(
            f"rollout.engine {engine.name!r} cannot play the Q function of {name}",
            remedy="set rollout.engine.name to torch, or algorithm.name to soft_q (it plays the model alone)",
        )
    if recipe.rollout.is_updating_in_flight and not engine.can_update_in_flight:
        raise UserError(
            f"rollout.is_updating_in_flight is true, and the {engine.name} engine takes weights only while "
            "it is idle",
            remedy="set it to false, or rollout.engine.name to torch",
        )
    for setting, beta in _betas(recipe).items():
        if beta > 0 and not algorithm.plays_q:
            raise UserError(
                f"{setting} is {beta}, and {name} has no Q function to play",
                remedy=f"set {setting} to 0, or use an algorithm that plays one (ilql, dqn)",
            )
    if recipe.rollout.exploration.is_used and not algorithm.is_off_policy:
        raise UserError(
            f"rollout.exploration is set, and {name} learns only from what its own policy draws",
            remedy="remove the section, or use an algorithm that learns off policy (ilql, dqn, soft_q); "
            f"{name} explores by rollout.sampling.temperature and its entropy coefficient",
        )
    check_sampling(recipe.rollout.sampling, algorithm.is_off_policy)
    for sampling in _samplings(recipe):
        engine.check(sampling)


def _samplings(recipe: Recipe) -> list[Sampling]:
    """What tasks may ask an engine to draw like: as training explores at its extremes, and as is measured."""
    rollout, explored = recipe.rollout, recipe.rollout.exploration
    farthest = {"epsilon": explored.epsilon, "temperature": explored.temperature}
    ends = [
        rollout.sampling.model_copy(update={name: value})
        for name, schedule in farthest.items()
        if schedule is not None
        for value in bounds(schedule)
    ]
    return [rollout.sampling, *ends, recipe.evaluation.sampling(rollout.settled)]


def _betas(recipe: Recipe) -> dict[str, float]:
    """The largest β of each setting that has one."""
    explored = recipe.rollout.exploration.beta
    return {
        "rollout.sampling.beta": recipe.rollout.sampling.beta,
        "rollout.exploration.beta": 0.0 if explored is None else bounds(explored)[1],
        "evaluation.beta": recipe.evaluation.beta or 0.0,
    }


def describe_engine(engine: type[Engine]) -> dict[str, dict[str, Any]]:
    """What the engine needs, for people; nothing where that is nothing."""
    needs = engine.needs()
    return {f"the engine {engine.name}": needs} if needs else {}


def describe_guide(recipe: Recipe, algorithm: Algorithm) -> dict[str, dict[str, Any]]:
    """The size of what actors play beside the model, for people; nothing where that is nothing."""
    config = algorithm.guide_config
    if config is None:
        return {}
    shape = load_config(recipe.model).get_text_config()
    with torch.device("meta"):
        unembedding = nn.Linear(shape.hidden_size, shape.vocab_size, bias=False)
        guide = QFunction(config, shape.hidden_size, shape.vocab_size, unembedding)
    size = getattr(torch, recipe.rollout.weights_dtype).itemsize
    return {
        "the Q function": {
            "form": f"{config.form}, {config.num_q} Q heads and V",
            "parameters that actors play": f"{guide.num_parameters:,}",
            "on the wire, beside the model": f"{guide.num_parameters * size / 2**20:.2f} MiB per publication",
        }
    }
