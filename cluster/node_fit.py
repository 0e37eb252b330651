"""Whether single nodes can hold what a run places on them: a sum that suffices does not say so.

Called with the sums (resources.py) before a run starts and before a job is submitted. Every test here is a
necessary condition: what is refused could never start. Knows the recipe, and nothing of Ray.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from antiphon.errors import UserError
from cluster.recipe import Recipe
from cluster.resources import check_fit, of_actor, of_rank

UNIT = 1e-4
"""Of which Ray counts resources."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Processes of a kind, each of which needs a node that has all it asks for."""

    role: str
    count: int
    amounts: Mapping[str, float]
    """Of one process, by resource."""


def check_nodes(recipe: Recipe, nodes: Sequence[Mapping[str, float]]) -> None:
    """Whether the nodes have what the recipe reserves, in sum and one by one.

    Where an autoscaler adds nodes, only the sum is looked at: the new ones may be larger.

    Args:
        nodes: what each node that is up offers, by resource.

    Raises:
        UserError: with what is asked, what there is, and what to change.
    """
    kinds = {kind for node in nodes for kind in node}
    check_fit(recipe, {kind: sum(node.get(kind, 0.0) for node in nodes) for kind in kinds})
    if recipe.cluster.autoscaled_to:
        return
    for place in places(recipe):
        room = sum(num_fitting(place.amounts, node) for node in nodes)
        if room < place.count:
            raise UserError(_problem(place, room, nodes), remedy=_remedy(place))


def places(recipe: Recipe) -> Iterator[Place]:
    """The ranks of the learner, the actors, and the quick replicas of the reward service."""
    num_ranks = recipe.learner.num_ranks
    role = "learner" if num_ranks == 1 else "rank of the learner"
    yield Place(role=role, count=num_ranks, amounts=of_rank(recipe))
    yield Place(role="rollout actor", count=recipe.rollout.num_actors, amounts=of_actor(recipe))
    if recipe.reward.shared is None:
        amounts = {"CPU": recipe.reward.num_cpus_per_replica, **recipe.cluster.resources.reward}
        yield Place(role="reward replica", count=recipe.reward.num_replicas, amounts=amounts)


def num_fitting(amounts: Mapping[str, float], node: Mapping[str, float]) -> int:
    """How many such processes an empty node holds; as many as one likes where they ask for nothing."""
    asked = {kind: amount for kind, amount in amounts.items() if amount > 0}
    return min((int((node.get(k, 0.0) + UNIT / 2) // amount) for k, amount in asked.items()), default=2**31)


def _problem(place: Place, room: int, nodes: Sequence[Mapping[str, float]]) -> str:
    asked = {kind: amount for kind, amount in place.amounts.items() if amount > 0}
    offers = "; ".join(_told({kind: node.get(kind, 0.0) for kind in asked}) for node in nodes)
    each = f"each {place.role} needs {_told(asked)} on one node"
    return f"{each}, there are to be {place.count} and {room} find room: the nodes have {offers}"


def _remedy(place: Place) -> str:
    if place.role == "reward replica":
        return "lower reward.num_cpus_per_replica or reward.num_replicas, or add larger nodes"
    settings = {
        "learner": "cluster.learner_cpus, cluster.learner_gpus",
        "rank of the learner": "learner.num_ranks, cluster.learner_cpus, cluster.learner_gpus",
        "rollout actor": "rollout.num_actors, cluster.cpus_per_actor, cluster.gpus_per_actor",
    }
    return f"lower one of {settings[place.role]}, or add larger nodes"


def _told(amounts: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {kind}" for kind, amount in amounts.items())
