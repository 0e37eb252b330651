"""The `rollout:` section of a recipe. The worker's and the dispatcher's numbers; the rest is derived."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from antiphon.schedules import last_value
from antiphon.settings import Settings
from rollout.exploration import ExplorationConfig, Explorer
from rollout.types import Sampling


class RolloutConfig(Settings):
    """How many actors play, how far behind they may be, and what they draw.

    All sizes are in groups (one prompt, all its samples) and global, never per actor.
    """

    num_actors: int = Field(2, ge=1)
    """Processes that roll out; with min_actors or max_actors, those that are asked for at the start."""
    min_actors: int | None = Field(None, ge=1)
    """Actors that are idle are taken away down to this number, and a run begins as soon as so many are up.
    null: num_actors."""
    max_actors: int | None = Field(None, ge=1)
    """Actors are added up to this number while the learner waits for them. null: num_actors."""
    num_threads: int = Field(1, ge=1)
    """Torch threads of each actor. Actors x threads beyond the cores makes everything slower."""
    max_lag: int = Field(1, ge=0)
    """Updates that may pass between the dispatch of a prompt and its own update; 0: synchronous."""
    is_updating_in_flight: bool = False
    """Whether actors take new weights between two decode steps, and go on with what they were at: every token
    keeps the version that drew it. The learner then never waits for long completions before it goes on. Needs
    Ray; pays where a completion takes longer than an update."""
    groups_per_update: int = Field(32, ge=1)
    """Prompts in the batch of one update, fresh and replayed ones together."""
    num_samples: int = Field(8, ge=1)
    """Completions of each prompt."""
    groups_per_task: int | None = Field(None, ge=1)
    """Prompts that an actor takes at once; null: the fresh ones of a batch are split evenly over the actors,
    as many as there may be.
    Fixes which samples are decoded together, so set it when runs with different numbers of actors must agree
    bit for bit."""
    sampling: Sampling = Sampling()
    """How training completions are drawn. What an algorithm cannot learn from is refused before the run."""
    exploration: ExplorationConfig = ExplorationConfig()
    """How that changes over the run."""
    environment: dict[str, Any] = Field(default_factory=lambda: {"name": "single_turn"})
    """`name:` and options of what answers the policy, so that a sample is a dialogue; see
    rollout/environments."""
    engine: dict[str, Any] = Field(default_factory=lambda: {"name": "torch"})
    """`name:` and options of the engine, see rollout/engines."""
    weights_dtype: Literal["float32", "bfloat16"] = "float32"
    """The type in which weights travel and actors compute; bfloat16 halves both."""
    is_dropping_constant: bool = False
    """Drop groups whose rewards are all equal and draw others instead (dynamic sampling, DAPO)."""
    max_failed_share: float = Field(0.5, gt=0.0, le=1.0)
    """Pause the run when a larger share of the samples of the recent groups was lost to failed scores; an
    algorithm that compares the samples of a prompt loses all of them to one failure. 1: never."""
    probe_every_s: float = Field(5.0, gt=0.0)
    """While the run is paused, one of the prompts whose scores failed is tried again this often; what comes
    of it is thrown away."""
    pause_deadline_s: float = Field(600.0, ge=0.0)
    """A run that was paused for so long without a good stretch since saves a checkpoint and stops with the
    cause. 0: it stops at once. Raise it above an hour for judges with an hourly budget."""
    task_deadline_s: float = Field(900.0, gt=0.0)
    """An actor that is at one task for longer is replaced, and its tasks are given out again."""

    @model_validator(mode="after")
    def _exploration_can_start(self) -> Self:
        Explorer(self.sampling, self.exploration)
        return self

    @model_validator(mode="after")
    def _bounds_hold_the_start(self) -> Self:
        if not self.fewest_actors <= self.num_actors <= self.most_actors:
            raise ValueError(
                f"num_actors {self.num_actors} is not between min_actors {self.fewest_actors} and "
                f"max_actors {self.most_actors}"
            )
        return self

    @property
    def fewest_actors(self) -> int:
        return self.min_actors or self.num_actors

    @property
    def most_actors(self) -> int:
        return self.max_actors or self.num_actors

    @property
    def samples_per_update(self) -> int:
        return self.groups_per_update * self.num_samples

    @property
    def settled(self) -> Sampling:
        """How completions are drawn once exploration is over: with the last β, and without ε."""
        beta = self.exploration.beta
        last = self.sampling.beta if beta is None else last_value(beta)
        return self.sampling.model_copy(update={"beta": last, "epsilon": 0.0})
