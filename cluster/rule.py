"""What the driver needs to know of a recipe to give out prompts: derived once, never set by hand."""

from dataclasses import dataclass, field

from cluster.recipe import Recipe
from rollout.exploration import ExplorationConfig
from rollout.types import Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchRule:
    """What a run gives out, and what it does when scores fail."""

    num_updates: int
    groups_per_update: int
    """Fresh ones: those that the replay adds to a batch are none of the driver's business."""
    groups_per_task: int
    num_samples: int
    max_lag: int
    sampling: Sampling
    seed: int
    is_dropping_constant: bool
    needs_whole_groups: bool
    """A failed score costs its whole group, because the algorithm compares the samples of a prompt."""
    max_failed_share: float
    probe_every_s: float
    pause_deadline_s: float
    exploration: ExplorationConfig = field(default_factory=ExplorationConfig)

    @classmethod
    def of(cls, recipe: Recipe, *, is_group_relative: bool) -> "DispatchRule":
        rollout = recipe.rollout
        return cls(
            num_updates=recipe.run.num_updates,
            groups_per_update=recipe.num_fresh,
            groups_per_task=recipe.groups_in_task,
            num_samples=rollout.num_samples,
            max_lag=rollout.max_lag,
            sampling=rollout.sampling,
            seed=recipe.run.seed,
            is_dropping_constant=rollout.is_dropping_constant,
            needs_whole_groups=is_group_relative,
            max_failed_share=rollout.max_failed_share,
            probe_every_s=rollout.probe_every_s,
            pause_deadline_s=rollout.pause_deadline_s,
            exploration=rollout.exploration,
        )
