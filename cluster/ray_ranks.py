"""Brings up the learner's actors on Ray: one, or one for each rank, side by side in a placement group.

Called by the assembly. Imports Ray, so ray_environment.prepare comes first.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayTaskError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from antiphon.meters import Meters
from cluster.ports import StalledError
from cluster.recipe import Recipe
from cluster.resources import of_learner, of_rank
from learner.actor import LearnerActor, LearnerActorFollower
from learner.follower import Follower
from learner.process import LearnerProcess
from learner.ranks import Ranks


def as_options(amounts: Mapping[str, float]) -> dict[str, Any]:
    """Amounts by resource, as Ray's options of an actor."""
    own = {kind: amount for kind, amount in amounts.items() if kind not in ("CPU", "GPU")}
    return {"num_cpus": amounts["CPU"], "num_gpus": amounts["GPU"], "resources": own}


@contextmanager
def learner_actors(
    recipe: Recipe,
    name: str,
    num_threads: int,
    meters: Meters,
    make_process: Callable[[Ranks], LearnerProcess],
    make_follower: Callable[[Ranks], Follower],
) -> Iterator[list[ActorHandle]]:
    """The actors of the learner, by rank. Whoever has them ends them; the group goes with the block.

    Raises:
        StalledError: several ranks did not come up before cluster.start_deadline_s.
    """
    first, follower = cast(Any, LearnerActor), cast(Any, LearnerActorFollower)
    if recipe.learner.num_ranks == 1:
        options = as_options(of_learner(recipe))
        yield [first.options(**options, name=f"{name}-learner").remote(make_process, num_threads, meters)]
        return
    num, deadline_s = recipe.learner.num_ranks, recipe.cluster.rank_deadline_s
    group = _reserve(recipe)
    try:
        options = _rank_options(recipe, group, 0)
        shell = first.options(**options, name=f"{name}-learner")
        actors = [shell.remote(make_process, num_threads, meters, num, deadline_s)]
        for rank in range(1, num):
            shell = follower.options(**_rank_options(recipe, group, rank))
            actors.append(shell.remote(make_follower, num_threads, rank, num, deadline_s))
        _join(actors, recipe.cluster.start_deadline_s)
        yield actors
    finally:
        if group is not None:
            remove_placement_group(group)


def _join(actors: list[ActorHandle], deadline_s: float) -> None:
    """Let the ranks find each other."""
    first, *others = cast(list[Any], actors)
    address = first.open.remote()
    joined = [first.join.remote(), *(actor.join.remote(address) for actor in others)]
    try:
        ray.get(joined, timeout=deadline_s)
    except GetTimeoutError:
        ready, _ = ray.wait(joined, num_returns=len(joined), timeout=0)
        absent = [rank for rank, ref in enumerate(joined) if ref not in ready]
        raise StalledError(f"ranks {absent} of the learner did not come up in {deadline_s:.0f} s") from None
    except RayTaskError as error:
        raise error.as_instanceof_cause() from None


def _reserve(recipe: Recipe) -> PlacementGroup | None:
    """Room for all ranks at once, close together; None where a trial has reserved it, or none is needed."""
    bundle = {kind: amount for kind, amount in of_rank(recipe).items() if amount}
    if ray.util.get_current_placement_group() is not None or not bundle:
        return None
    group = placement_group([bundle] * recipe.learner.num_ranks, strategy="PACK")
    if not group.wait(recipe.cluster.start_deadline_s):
        remove_placement_group(group)
        raise StalledError(
            f"no room for {recipe.learner.num_ranks} ranks of the learner with {bundle} each "
            f"in {recipe.cluster.start_deadline_s:.0f} s"
        )
    return group


def _rank_options(recipe: Recipe, group: PlacementGroup | None, rank: int) -> dict[str, Any]:
    options = as_options(of_rank(recipe))
    if group is None:
        return options
    place = PlacementGroupSchedulingStrategy(placement_group=group, placement_group_bundle_index=rank)
    return {**options, "scheduling_strategy": place}
