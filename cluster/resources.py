"""What a run asks Ray for, and whether the cluster has it. Knows the recipe, and nothing of Ray.

A request that no node can meet stays pending for ever in Ray: it is refused here, with the sums.
"""

import math
from collections import Counter
from collections.abc import Mapping

from antiphon.errors import UserError
from cluster.recipe import Recipe
from reward_service import lines as reward_lines

TOLERANCE = 1e-6
"""Sums of decimal fractions are not exact; Ray counts in units of 0.0001."""
ROLES = ("rollout", "learner", "reward")
SETTINGS = {
    "CPU": "rollout.num_actors or cluster.cpus_per_actor lower",
    "GPU": "rollout.num_actors or cluster.gpus_per_actor lower",
}
"""What helps where Ray's own resources are short."""


def of_actor(recipe: Recipe) -> dict[str, float]:
    """What a rollout actor asks for, by resource."""
    cluster = recipe.cluster
    return {"CPU": cluster.cpus_per_actor, "GPU": cluster.gpus_per_actor, **cluster.resources.rollout}


def of_learner(recipe: Recipe) -> dict[str, float]:
    """What the learner asks for, all its ranks together, by resource."""
    cluster = recipe.cluster
    return {"CPU": cluster.learner_cpus, "GPU": cluster.learner_gpus, **cluster.resources.learner}


def of_rank(recipe: Recipe) -> dict[str, float]:
    """What each rank of the learner asks for: an equal share."""
    return {kind: amount / recipe.learner.num_ranks for kind, amount in of_learner(recipe).items()}


def check_ranks(recipe: Recipe) -> None:
    """Whether several ranks of the learner, if there are any, have a process and a device each.

    Raises:
        UserError: one process for all, or a number of GPUs that is neither none nor that of the ranks.
    """
    num, gpus = recipe.learner.num_ranks, recipe.cluster.learner_gpus
    if num > 1 and recipe.cluster.mode == "inline":
        raise UserError(
            f"learner.num_ranks is {num}, and with cluster.mode inline all is one process",
            remedy="set cluster.mode ray, or learner.num_ranks 1",
        )
    if num > 1 and gpus not in (0.0, float(num)):
        raise UserError(
            f"learner.num_ranks is {num}, cluster.learner_gpus {gpus:g}: a rank has one GPU, or none has any",
            remedy=f"set cluster.learner_gpus {num}, or 0 for a learner on CPUs",
        )


def reserved(recipe: Recipe) -> dict[str, float]:
    """What Ray reserves for the actors, the learner and the reward service when the run starts, by resource;
    CPU and GPU always among them."""
    total: Counter[str] = Counter()
    total.update(of_learner(recipe))
    total.update({kind: recipe.rollout.num_actors * n for kind, n in of_actor(recipe).items()})
    if recipe.reward.shared is None:
        num_processes = reward_lines.num_processes(recipe.reward)
        total.update(reward_lines.reserved(recipe.reward))
        total.update({kind: num_processes * n for kind, n in recipe.cluster.resources.reward.items()})
    return dict(total)


def num_that_fit(recipe: Recipe, there: Mapping[str, float]) -> float:
    """How many rollout actors the cluster has room for, or may grow to have, beside the rest of the run.

    Args:
        there: what the nodes that are up offer, by resource.
    """
    own, all_of_run = of_actor(recipe), reserved(recipe)
    room = math.inf
    for kind, amount in own.items():
        if amount > 0.0:
            others = all_of_run[kind] - recipe.rollout.num_actors * amount
            has = max(there.get(kind, 0.0), recipe.cluster.autoscaled_to.get(kind, 0.0))
            room = min(room, math.floor((has - others) / amount + TOLERANCE))
    return max(0.0, room)


def check_fit(recipe: Recipe, there: Mapping[str, float]) -> None:
    """Whether the cluster has what the recipe reserves, or may grow to it.

    Args:
        there: what the nodes that are up offer, by resource.

    Raises:
        UserError: with the sum, what there is, and what to change.
    """
    limit = recipe.cluster.autoscaled_to
    for kind, need in reserved(recipe).items():
        has = max(there.get(kind, 0.0), limit.get(kind, 0.0))
        if need > has + TOLERANCE:
            raise UserError(_problem(recipe, kind, need, has), remedy=_remedy(recipe, kind))


def _problem(recipe: Recipe, kind: str, need: float, has: float) -> str:
    scope = "the cluster has" if kind not in recipe.cluster.autoscaled_to else "the cluster grows to"
    unit = f"{kind}s" if kind in SETTINGS else f"of the resource {kind!r}"
    return (
        f"rollout.num_actors {recipe.rollout.num_actors}, the learner and the reward service "
        f"need {need:g} {unit}, {scope} {has:g}"
    )


def _remedy(recipe: Recipe, kind: str) -> str:
    if kind in SETTINGS:
        return f"set {SETTINGS[kind]}, or add nodes; cluster.autoscaled_to says what an autoscaler may add"
    asking = [role for role in ROLES if kind in getattr(recipe.cluster.resources, role)]
    return (
        f"change cluster.resources.{asking[0]}, or start nodes that offer {kind!r} (`ray start --resources`, "
        "`resources:` of a KubeRay group); cluster.autoscaled_to says what an autoscaler may add"
    )
