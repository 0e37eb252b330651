"""A recipe: the YAML file that says a whole run. Each section's model lives beside the code that reads it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from antiphon import plugins, safe_yaml
from antiphon.errors import UserError
from antiphon.privacy import PrivacyConfig
from antiphon.secrets import refuse_secrets
from antiphon.settings import Settings, parse
from cluster.cluster_config import ClusterConfig
from cluster.evaluation import EvaluationConfig
from cluster.metrics import MetricsConfig
from learner.learner import LearnerConfig
from learner.replay import Replay
from learner.supervised import SupervisedConfig
from reward_service.components.human import Human
from reward_service.config import RewardConfig
from rollout.config import RolloutConfig
from rollout.encoding import EncodingConfig
from rollout.models import ModelConfig
from rollout.watch_config import WatchConfig


class RunConfig(Settings):
    """What the run is called, how long it is, and when it saves."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The run directory is runs/<name> unless --run-dir says otherwise."""
    seed: int = Field(0, ge=0)
    """Everything that draws derives its seed from it."""
    num_updates: int = Field(ge=0)
    """Publications of new weights, each after one batch; 0: the supervised phase alone."""
    checkpoint_every: int = Field(10, ge=0)
    """Save before the first and after every so many updates; 0: only at the end, and when it is stopped."""
    num_checkpoints: int = Field(3, ge=1)
    """How many are kept; the oldest are deleted after a newer one is whole."""


class Recipe(Settings):
    """A whole run."""

    run: RunConfig
    model: ModelConfig = ModelConfig()
    data: dict[str, Any]
    """`name:` and options of the prompt source, see rollout/sources."""
    encoding: EncodingConfig = EncodingConfig()
    rollout: RolloutConfig = RolloutConfig()
    reward: RewardConfig
    algorithm: dict[str, Any]
    """`name:` and options of the algorithm, see learner/algorithms."""
    replay: dict[str, Any] = Field(default_factory=lambda: {"name": "queue"})
    """`name:` and options of the replay, see learner/replays."""
    learner: LearnerConfig = LearnerConfig()
    warm_up: SupervisedConfig | None = None
    """A supervised phase on the references before the first update; null: none."""
    evaluation: EvaluationConfig = EvaluationConfig()
    metrics: MetricsConfig = MetricsConfig()
    watch: WatchConfig = WatchConfig()
    cluster: ClusterConfig = ClusterConfig()
    privacy: PrivacyConfig = PrivacyConfig()

    @model_validator(mode="after")
    def _tasks_fill_updates(self) -> Self:
        groups, size = self.num_fresh, self.groups_in_task
        if groups % size:
            is_all = groups == self.rollout.groups_per_update
            setting = "rollout.groups_per_update" if is_all else "replay.num_fresh"
            raise ValueError(
                f"{setting} {groups} is no multiple of the {size} groups of a task; "
                "set rollout.groups_per_task to a divisor"
            )
        return self

    @model_validator(mode="after")
    def _metric_is_scored(self) -> Self:
        labels = [c.shown_as for c in self.reward.components]
        metric = self.evaluation.metric
        if metric is not None and metric not in labels:
            raise ValueError(f"evaluation.metric {metric!r} is none of the reward components {labels}")
        return self

    @model_validator(mode="after")
    def _watched_is_scored(self) -> Self:
        components = self.reward.components
        known = {c.shown_as for c in components} | {c.estimates for c in components}
        for name in ("trusted", "agreeing"):
            strange = [label for label in getattr(self.watch, name) if label not in known]
            # The components of a shared service are not known here.
            if strange and components:
                labels = sorted(label for label in known if label)
                raise ValueError(f"watch.{name} {strange[0]!r} is none of the reward components {labels}")
        return self

    @property
    def replay_plugin(self) -> tuple[type[Replay], Any]:
        """The replay's class and its settings.

        Raises:
            UserError: no such replay, or a wrong setting.
        """
        return plugins.configure(Replay, "learner.replays", self.replay, "replay")

    @property
    def num_fresh(self) -> int:
        """Groups that are rolled out for each update; all others of a batch come from the replay."""
        num_fresh: int = self.replay_plugin[1].num_fresh_of(self.rollout.groups_per_update)
        return num_fresh

    @property
    def groups_in_task(self) -> int:
        """rollout.groups_per_task, or what splits the fresh groups of an update evenly over all actors that
        there may be."""
        return self.rollout.groups_per_task or max(1, -(-self.num_fresh // self.rollout.most_actors))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, every default written out; `parse_recipe` reads it back."""
        return self.model_dump(mode="json")


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a file, changed by `key.path=value` overrides.

    Raises:
        UserError: no such file, no YAML, a wrong setting, or a recipe for another command.
    """
    data = read_recipe(path)
    if "encoder" in data:
        raise UserError(
            f"{path} is a recipe for choosing between texts", remedy=f"antiphon train-choice {path}"
        )
    return parse_recipe(data, overrides)


def read_recipe(path: Path) -> dict[str, Any]:
    """The recipe in a file, as plain data, not yet checked.

    Raises:
        UserError: no such file, no YAML, or a secret in it.
    """
    try:
        data = safe_yaml.read_file(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", remedy="give a recipe's path") from None
    except safe_yaml.UnsafeYaml as error:
        raise UserError(f"{path} is not YAML: {error}", remedy="mend the line it names") from None
    if not isinstance(data, dict):
        raise UserError(f"{path} holds no recipe", remedy="see recipes/quickstart.yaml for the sections")
    refuse_secrets(data)
    return data


def parse_recipe(data: Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """Recipe data, changed by overrides, as a checked recipe."""
    changed = dict(data)
    for override in overrides:
        changed = apply_override(changed, override)
    refuse_secrets(changed)
    return parse(Recipe, with_privacy(with_logged_data(changed)))


def with_logged_data(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """`data.trajectories`, if there are any, as what they stand for: those of a replay that keeps groups.

    Raises:
        UserError: the replay names some too.
    """
    source, replay = data.get("data"), data.get("replay") or {}
    if not isinstance(source, Mapping) or not isinstance(replay, Mapping) or "trajectories" not in source:
        return data
    if "trajectories" in replay:
        raise UserError(
            "data.trajectories and replay.trajectories are both set", remedy="remove one of the two"
        )
    own = {key: value for key, value in source.items() if key != "trajectories"}
    replay = {"name": "uniform", **replay, "trajectories": source["trajectories"]}
    return {**data, "data": own, "replay": replay}


def with_privacy(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The section `privacy` handed down to the rewards, which show and log texts too: to the service, and to
    the component that puts texts before people.

    Raises:
        UserError: the rewards have another one of their own.
    """
    rewards = data.get("reward")
    if not isinstance(rewards, Mapping) or not (data.get("privacy") or rewards.get("privacy")):
        return data
    privacy = data.get("privacy") or rewards["privacy"]
    if rewards.get("privacy", privacy) != privacy:
        raise UserError("privacy and reward.privacy differ", remedy="remove reward.privacy")
    components = [
        {"privacy": privacy, **c} if isinstance(c, Mapping) and c.get("name") == Human.name else c
        for c in rewards.get("components") or ()
    ]
    return {**data, "reward": {**rewards, "privacy": privacy, "components": components}}


def apply_override(data: Mapping[str, Any], override: str) -> dict[str, Any]:
    """`data` with one `a.b.c=value` applied; the value is read as YAML, an index reaches into a list.

    Raises:
        UserError: there is no `=`, the path leads through something that has no keys, or this is a secret.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set {override!r} is not key=value", remedy="write for example --set run.seed=1")
    try:
        value = safe_yaml.read(text)
    except safe_yaml.UnsafeYaml:
        raise UserError(f"--set {key}: the value is not YAML", remedy="quote it") from None
    refuse_secrets({key.rpartition(".")[2]: value}, key.rpartition(".")[0])
    return with_setting(data, key, value)


def with_setting(data: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """`data` with `value` at the dotted path `key`; an index reaches into a list.

    Raises:
        UserError: the path leads through something that has no keys.
    """
    changed: dict[str, Any] = _replaced(data, key.split("."), value, key)
    return changed


def _replaced(node: Any, path: Sequence[str], value: Any, key: str) -> Any:
    """A copy of `node` in which the place at `path` holds `value`."""
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(node, list) and head.isdigit() and int(head) < len(node):
        return [_replaced(x, rest, value, key) if i == int(head) else x for i, x in enumerate(node)]
    if node is None or isinstance(node, Mapping):
        inner = (node or {}).get(head)
        return {**(node or {}), head: _replaced(inner, rest, value, key)}
    raise UserError(
        f"{key!r}: {head!r} leads nowhere, the setting above it is {node!r}",
        remedy="docs/configuration.md lists every setting with its path",
    )
