"""What a recipe says of the replay: whether it fits the algorithm and the logged data, and what it makes."""

from pathlib import Path
from typing import Any

from antiphon.errors import UserError
from cluster.recipe import Recipe
from learner.algorithms.base import Algorithm
from learner.logged import Limits, Logged
from learner.replays.memory import Memory
from rollout.fingerprint import fingerprint
from rollout.models import load_config, load_tokenizer, max_context


def check_replay(recipe: Recipe, algorithm: Algorithm) -> None:
    """
    Raises:
        UserError: a replay that the algorithm cannot learn from, or a batch that it cannot fill.
    """
    name, config = recipe.replay["name"], recipe.replay_plugin[1]
    num_fresh, num_groups = recipe.num_fresh, recipe.rollout.groups_per_update
    if name == "queue":
        return
    if not algorithm.is_off_policy:
        raise UserError(
            f"replay.name is {name}, and {recipe.algorithm['name']} learns only from what its own policy "
            "drew just now",
            remedy="use an algorithm that learns from anybody's trajectories (ilql, dqn, soft_q), or "
            "replay.name queue without trajectories",
        )
    if num_fresh > num_groups:
        raise UserError(
            f"replay.num_fresh is {num_fresh}, a batch has {num_groups} groups",
            remedy="set replay.num_fresh lower, or rollout.groups_per_update higher",
        )
    if num_fresh == num_groups:
        raise UserError(
            f"all {num_groups} groups of a batch are fresh: nothing would ever be drawn from the replay",
            remedy="set replay.num_fresh below rollout.groups_per_update; 0 learns from logged trajectories "
            "alone",
        )
    if num_fresh == 0 and not config.stores:
        raise UserError(
            "replay.num_fresh is 0, and there are no logged trajectories to learn from",
            remedy="set replay.trajectories to run directories, or replay.num_fresh above 0",
        )


def with_absolute_stores(recipe: Recipe) -> Recipe:
    """The recipe with paths to logged data that hold wherever the learner runs, and for a later resume."""
    stores = recipe.replay_plugin[1].stores
    if not stores:
        return recipe
    absolute = [str(Path(store).expanduser().resolve()) for store in stores]
    return recipe.model_copy(update={"replay": {**recipe.replay, "trajectories": absolute}})


def limits_of(recipe: Recipe) -> Limits:
    """What the model of the recipe takes."""
    config = load_config(recipe.model)
    return Limits(
        tokenizer=fingerprint(load_tokenizer(recipe.model)),
        vocab_size=config.get_text_config().vocab_size,
        max_tokens=max_context(config),
    )


def open_logged(recipe: Recipe, limits: Limits) -> Logged | None:
    """The logged data of the recipe, if it names any.

    Raises:
        UserError: some of it cannot be learned from.
    """
    stores = recipe.replay_plugin[1].stores
    return Logged(stores, limits) if stores else None


def describe_replay(recipe: Recipe, logged: Logged | None) -> dict[str, dict[str, Any]]:
    """What a batch is made of, for people; nothing where all of it is fresh."""
    if recipe.replay["name"] == "queue":
        return {}
    config = recipe.replay_plugin[1]
    told: dict[str, Any] = {
        "fresh groups of a batch": recipe.num_fresh or "none: offline",
        "groups drawn from the replay": recipe.rollout.groups_per_update - recipe.num_fresh,
    }
    if isinstance(config, Memory.Config):
        told["kept, at most"] = f"{config.capacity_tokens:,} tokens"
    if logged is not None:
        told["logged trajectories"] = f"{logged.num_trajectories:,} in {logged.num_files} files"
    return {"the replay": told}
