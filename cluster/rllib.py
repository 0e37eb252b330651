"""RLlib's front door: a recipe as an RLlib algorithm, so that Tune and its schedulers can drive it.

    AntiphonConfig().training(recipe=..., settings=...)  -> tune.Tuner(Antiphon, param_space=...)
    training_step() = one turn of the loop (loop.py)     -> results under our metric names

RLlib gives the frame: config, results, checkpoints that Tune carries about. Its environment runners,
connectors and learners are never built. `import cluster.rllib` after Ray, from anywhere; nothing here imports
this file.

Where a trial runs: Tune reserves a placement group for it. The first bundle holds the trial's own process,
which only waits, and the CPUs of the reward service; the learner and each rollout actor have a bundle of
their own, in which Ray puts them because the trial's process started them. A trial therefore starts when
there is room for all of it, and waits before that.
"""

import io
import os
import tempfile
import uuid
from collections.abc import Collection, Mapping
from contextlib import ExitStack, chdir
from pathlib import Path
from typing import Any, Self

import ray
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core import COMPONENT_METRICS_LOGGER
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger
from ray.tune import PlacementGroupFactory
from ray.tune.result import DONE as IS_DONE
from ray.tune.result import TRAINING_ITERATION
from rich.console import Console

from antiphon.errors import UserError
from cluster.checkpoints import Checkpoints
from cluster.evaluation import Measurement
from cluster.loop import Loop
from cluster.plan import prepare
from cluster.progress import Progress
from cluster.recipe import Recipe, parse_recipe, read_recipe, with_setting
from cluster.resources import of_actor, of_learner
from cluster.run_dir import new_run_dir
from cluster.train import DONE, INTERRUPTED, Attempt

RUN = "run"
"""Where our part of a checkpoint lies in the folder that RLlib gives, and the run in a trial's folder."""


class AntiphonConfig(AlgorithmConfig):
    """A recipe, and what a search changes in it.

    Example:
        >>> space = AntiphonConfig().training(
        ...     recipe="recipes/quickstart.yaml",
        ...     settings={"learner.optimizer.lr": tune.loguniform(1e-5, 1e-3), "evaluation.every": 1},
        ... )
        >>> tune.Tuner(Antiphon, param_space=space, run_config=tune.RunConfig(stop={"training_iteration": 9}))

    `settings` overrules the recipe by dotted keys, as --set does. `run.checkpoint_every` has no effect: when
    to save is for Tune to say (tune.CheckpointConfig).
    """

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class or Antiphon)
        self.recipe: Mapping[str, Any] | str | Path | None = None
        self.settings: Mapping[str, Any] = {}
        # No environment of RLlib's: what an algorithm that learns offline says, so that no runner is built.
        self._is_online = False

    def training(self, *, recipe: Any = NotProvided, settings: Any = NotProvided, **kwargs: Any) -> Self:
        """
        Args:
            recipe: a recipe's path, read here and now, or its content.
            settings: dotted keys of the recipe -> values, or search spaces of Tune.
        """
        super().training(**kwargs)
        if recipe is not NotProvided:
            self.recipe = dict(recipe) if isinstance(recipe, Mapping) else read_recipe(Path(recipe))
        if settings is not NotProvided:
            self.settings = dict(settings)
        return self

    def validate(self) -> None:
        """
        Raises:
            UserError: there is no recipe, or something in it is wrong.
        """
        super().validate()
        self.to_recipe()

    def to_recipe(self) -> Recipe:
        """The recipe with the settings in it, checked."""
        if self.recipe is None:
            raise UserError("there is no recipe", remedy="AntiphonConfig().training(recipe='recipes/….yaml')")
        data = self.recipe if isinstance(self.recipe, Mapping) else read_recipe(Path(self.recipe))
        for key, value in {**self.settings, "run.checkpoint_every": 0}.items():
            data = with_setting(data, key, value)
        return parse_recipe(data)


class Results(Progress):
    """In the place of a display: keeps the newest numbers for Tune."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO(), quiet=True), "trial", 1)
        self.values: dict[str, float] = {}

    def update(self, version: int, values: Mapping[str, float]) -> None:
        self.values |= {**values, "policy/version": float(version)}

    def measurement(self, version: int, measurement: Measurement) -> None:
        self.values |= {f"eval/{measurement.metric}": measurement.value, "eval/version": float(version)}


class Antiphon(Algorithm):
    """A run that is turned by RLlib: `train()` is one update. Done when the recipe's updates are."""

    config: AntiphonConfig
    metrics: MetricsLogger

    @classmethod
    def get_default_config(cls) -> AntiphonConfig:
        return AntiphonConfig()

    @classmethod
    def default_resource_request(cls, config: Any) -> PlacementGroupFactory:
        """What a trial reserves; see the module's docstring. In one process it is one bundle."""
        resolved = cls.get_default_config().update_from_dict(config)
        recipe, reward = resolved.to_recipe(), resolved.to_recipe().reward
        learner, actor = of_learner(recipe), of_actor(recipe)
        if recipe.cluster.mode == "inline":
            return PlacementGroupFactory([{kind: learner[kind] + actor[kind] for kind in ("CPU", "GPU")}])
        trial = {"CPU": reward.num_replicas * reward.num_cpus_per_replica}
        parts = [b for b in (learner, *[actor] * recipe.rollout.num_actors) if any(b.values())]
        return PlacementGroupFactory([trial, *parts], strategy=resolved.placement_strategy)

    def setup(self, config: Any) -> None:
        """Brings the run up. RLlib's own set-up, which builds runners and learners, is left out."""
        self.callbacks = [self.config.callbacks_class()]
        self.env_runner_group = None
        self._set_up_metrics()
        self._has_begun = False
        self._open()

    def training_step(self) -> None:
        """One update: gather, learn, publish, record, and measure when the recipe says so.

        Raises:
            UserError: all updates of the recipe are done.
        """
        recipe, loop = self._recipe, self._loop
        if loop.version >= recipe.run.num_updates:
            raise UserError(
                f"the recipe's {loop.version} updates are done", remedy="raise run.num_updates in settings"
            )
        self._start()
        while not loop.turn():
            pass
        if _is_measured(recipe, loop.version):
            loop.measure()
        for name, value in self._results.values.items():
            self.metrics.log_value(tuple(name.split("/")), value, reduce="item")
        self.metrics.log_value(NUM_ENV_STEPS_SAMPLED_LIFETIME, loop.journal.num_tokens, reduce="item")

    def step(self) -> dict[str, Any]:
        """The result of an iteration, with the digest of the weights, and whether the run is at its end."""
        results = super().step()
        is_done = self._loop.version >= self._recipe.run.num_updates
        return {**results, "weights_digest": self._loop.weights_digest, IS_DONE: is_done}

    def save_to_path(self, path: str | Path | None = None, **kwargs: Any) -> str:
        """RLlib's own files, so that `Antiphon.from_checkpoint` works, and beside them our checkpoint.

        Args:
            path: a local folder; Tune brings it to where the trial's checkpoints are kept.
        """
        folder = Path(path or tempfile.mkdtemp()).absolute()
        super().save_to_path(folder, **kwargs)
        self._start()
        Checkpoints(folder / RUN, 1).save(self._loop.version, self._loop.save, {"run_id": self._run_id})
        return str(folder)

    def restore_from_path(self, path: str | Path, **kwargs: Any) -> None:
        """The inverse of `save_to_path`, whatever this run did before. Settings are those of this trial.

        Raises:
            UserError: there is no whole checkpoint of ours in the folder.
        """
        checkpoint, _ = Checkpoints(Path(path).absolute() / RUN, 1).newest()
        Checkpointable.restore_from_path(self, path, **kwargs)
        if self._has_begun:
            self.cleanup()
            self._open()
        # Nothing to warm up or to measure: the journal knows what was measured before.
        self._loop.load(checkpoint)
        self._has_begun = True

    def get_checkpointable_components(self) -> list[tuple[str, Checkpointable]]:
        """None of RLlib's."""
        return []

    def get_state(
        self, components: str | Collection[str] | None = None, *, not_components: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        """What RLlib counts; the run's own state is in our checkpoint."""
        return {COMPONENT_METRICS_LOGGER: self.metrics.get_state(), TRAINING_ITERATION: self.iteration}

    def __repr__(self) -> str:
        return f"Antiphon({self._recipe.run.name})"

    def cleanup(self) -> None:
        """Ends the actors and the reward service, and writes the run's summary."""
        is_done = self._loop.version >= self._recipe.run.num_updates
        self._stack.close()
        self._attempt.summarize(DONE if is_done else INTERRUPTED)

    def _open(self) -> None:
        self._recipe = _as_trial(self.config.to_recipe())
        self._results = Results()
        self._run_id = uuid.uuid4().hex[:8]
        run_dir = new_run_dir(RUN, Path(self.logdir).absolute())
        # Tune moves a trial into its own folder; paths in a recipe start where the person stood.
        with ExitStack() as stack, chdir(os.environ.get("TUNE_ORIG_WORKING_DIR", ".")):
            self._attempt = Attempt(prepare(self._recipe), run_dir, self._results, self._run_id)
            self._loop: Loop = self._attempt.open(stack)
            self._stack = stack.pop_all()

    def _start(self) -> None:
        """Warm-up, first publication and measurement, unless a checkpoint took their place."""
        if not self._has_begun:
            self._attempt.begin(self._loop)
            self._has_begun = True


def _as_trial(recipe: Recipe) -> Recipe:
    """Inside a placement group, the reward replicas reserve nothing: the group has their CPUs already.

    Serve starts them, and they cannot be in the group. Actors stay as many as the group has bundles.
    """
    if ray.util.get_current_placement_group() is None:
        return recipe
    reward = recipe.reward.model_copy(update={"num_cpus_per_replica": 0.0})
    rollout = recipe.rollout.model_copy(update={"min_actors": None, "max_actors": None})
    # The split into tasks is that of the recipe, whose bounds it follows.
    rollout = rollout.model_copy(update={"groups_per_task": recipe.groups_in_task})
    return recipe.model_copy(update={"reward": reward, "rollout": rollout})


def _is_measured(recipe: Recipe, version: int) -> bool:
    every = recipe.evaluation.every
    return version == recipe.run.num_updates or (every > 0 and version % every == 0)
