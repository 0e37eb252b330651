"""Wires the parts of a run behind the two doors of the loop: in one process, or as Ray actors.

The components are the same; only this file and the files that it names know which assembly is in use.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from antiphon.lease import Lease
from cluster import ray_environment
from cluster.parts import build_follower, build_learner_process, build_worker
from cluster.plan import Plan
from cluster.ports import LearnerSide, RolloutSide
from cluster.recipe import Recipe
from cluster.resources import of_actor
from cluster.rewards import Rewards
from reward_service.client import RewardClient
from reward_service.opening import open_rewards

Sides = tuple[RolloutSide, LearnerSide, Rewards]


@contextmanager
def assemble(
    plan: Plan, run_id: str, trajectories: Path, lease: Lease, on_event: Callable[..., None]
) -> Iterator[Sides]:
    """Both sides of the run, up inside the block and gone after it."""
    build = {"inline": _inline, "ray": _on_ray}[plan.recipe.cluster.mode]
    with build(plan, run_id, trajectories, lease, on_event) as sides:
        yield sides


def learner_threads(recipe: Recipe) -> int:
    """Of each rank: those that the recipe says, or a share of the cores; the same in either assembly."""
    return recipe.learner.num_threads or max(1, (os.cpu_count() or 1) // recipe.learner.num_ranks)


@contextmanager
def _inline(
    plan: Plan, run_id: str, trajectories: Path, lease: Lease, on_event: Callable[..., None]
) -> Iterator[Sides]:
    from cluster.inline import InlineLearner, InlineRollouts

    recipe = plan.recipe
    rewards = open_rewards(recipe.reward)
    worker = build_worker(recipe, rewards)
    process = build_learner_process(recipe, tuple(plan.pairs), trajectories, plan.limits, lease)
    num_queued = 2 * recipe.rollout.num_actors
    yield (
        InlineRollouts(worker, recipe.rollout.num_threads, num_queued),
        InlineLearner(process, learner_threads(recipe)),
        Rewards(rewards),
    )


@contextmanager
def _on_ray(
    plan: Plan, run_id: str, trajectories: Path, lease: Lease, on_event: Callable[..., None]
) -> Iterator[Sides]:
    ray_environment.prepare()
    # Ray takes a second to import, which `check` and the one-process assembly need not pay.
    from cluster.ray_learner import RayLearner
    from cluster.ray_meters import RayMeters
    from cluster.ray_ranks import as_options, learner_actors
    from cluster.ray_rollouts import RayRollouts
    from cluster.ray_session import session
    from reward_service.serving.deployment import deploy, shutdown
    from reward_service.serving.handle import HandleClient
    from rollout.actor import InFlightActor, RolloutActor

    recipe, cluster = plan.recipe, plan.recipe.cluster
    meters = RayMeters(recipe.run.name)
    with ExitStack() as stack:
        stack.enter_context(session(recipe))
        make_process = partial(
            build_learner_process, recipe, tuple(plan.pairs), trajectories.resolve(), plan.limits, lease
        )
        learner_actor, *followers = stack.enter_context(
            learner_actors(
                recipe, run_id, learner_threads(recipe), meters, make_process, partial(build_follower, recipe)
            )
        )
        application = f"{run_id}-reward"
        rewards: RewardClient = (
            HandleClient(deploy(recipe.reward, application, cluster.resources.reward), recipe.reward)
            if recipe.reward.shared is None
            else open_rewards(recipe.reward)
        )
        make_worker = partial(build_worker, recipe, rewards)
        options = as_options(of_actor(recipe))
        actor_class: Any = InFlightActor if recipe.rollout.is_updating_in_flight else RolloutActor
        rollouts = RayRollouts(
            lambda: actor_class.options(**options).remote(make_worker, recipe.rollout.num_threads, meters),
            recipe.rollout.num_actors,
            num_needed=recipe.rollout.fewest_actors,
            max_restarts=cluster.max_restarts,
            task_deadline_s=recipe.rollout.task_deadline_s,
            load_deadline_s=cluster.start_deadline_s,
            publish_deadline_s=cluster.publish_deadline_s,
            on_event=on_event,
        )
        learner = RayLearner(learner_actor, cluster.stall_deadline_s, followers)
        try:
            yield rollouts, learner, Rewards(rewards)
        finally:
            rollouts.close()
            learner.close()
            # A newer attempt has the service of that name now.
            if recipe.reward.shared is None and lease.is_current():
                shutdown(application)
