"""The `cluster:` section of a recipe: where the processes live and how long anything may take."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from antiphon.settings import Settings
from cluster.scaling import ScalingConfig

OF_RAY = ("CPU", "GPU", "memory", "object_store_memory")
"""Resources that every node has by itself; the first two have settings of their own."""


def _are_own(amounts: dict[str, float]) -> dict[str, float]:
    for name, amount in amounts.items():
        if name in OF_RAY:
            raise ValueError(
                f"{name} is one of Ray's own; see cpus_per_actor, learner_gpus, reward.num_cpus_…"
            )
        if amount <= 0:
            raise ValueError(f"{name} is {amount:g}, which asks for nothing")
    return amounts


Amounts = Annotated[dict[str, float], AfterValidator(_are_own)]


class ResourcesConfig(Settings):
    """Custom resources of nodes that processes ask for, so that each lands on the nodes that are meant for
    it. A node offers them with `ray start --resources`, a KubeRay group by `resources:`; empty: anywhere."""

    rollout: Amounts = Field(default_factory=dict)
    """For each rollout actor, for instance {rollout: 1} where a node with one GPU offers {rollout: 1}."""
    learner: Amounts = Field(default_factory=dict)
    """For the learner; of several ranks, for all together."""
    reward: Amounts = Field(default_factory=dict)
    """For each process of the reward service; below 1 lets several share a node that offers 1."""


class ClusterConfig(Settings):
    """Where the processes live and how long anything may take."""

    mode: Literal["ray", "inline"] = "ray"
    """`inline` runs the same parts in this process, without Ray: for breakpoints."""
    cpus_per_actor: float = Field(0.5, ge=0.0)
    """What Ray reserves for a rollout actor."""
    gpus_per_actor: float = Field(0.0, ge=0.0)
    """The same, of GPUs."""
    learner_cpus: float = Field(0.5, ge=0.0)
    """What Ray reserves for the learner; of several ranks, for all together."""
    learner_gpus: float = Field(0.0, ge=0.0)
    """The same, of GPUs. With several ranks: one for each, or 0."""
    resources: ResourcesConfig = ResourcesConfig()
    """On which nodes the processes may be placed."""
    autoscaled_to: dict[str, float] = Field(default_factory=dict)
    """What the cluster may grow to, such as {CPU: 64, GPU: 8, rollout: 8}, where an autoscaler adds nodes. A
    run that needs more is refused; without it, one that needs more than is there now."""
    max_restarts: int = Field(10, ge=0)
    """Rollout actors that may be replaced before the run gives up."""
    start_deadline_s: float = Field(180.0, gt=0.0)
    """For Ray, the actors and the reward service to come up, and for actors to take new weights once they are
    at no task."""
    publish_deadline_s: float = Field(60.0, gt=0.0)
    """How long a publication of weights waits for actors. Who has not confirmed by then gets no work until it
    has; the others go on."""
    scaling: ScalingConfig = ScalingConfig()
    """When actors are added and taken away, between rollout.min_actors and rollout.max_actors."""
    rank_deadline_s: float = Field(600.0, gt=0.0)
    """For a rank of the learner to come to what all ranks do together. Then the run ends, and names it."""
    stall_deadline_s: float = Field(1800.0, gt=0.0)
    """Without any progress for so long the run ends with stacks on stderr and a post-mortem."""
