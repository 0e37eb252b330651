"""The recipe of a run that learns to choose between texts: `antiphon train-choice`."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from antiphon.settings import Settings, parse
from cluster.recipe import apply_override, read_recipe
from learner.choice.chooser import ChooserConfig
from learner.choice.encoder import EncoderConfig
from learner.choice.network import QNetworkConfig
from learner.choice.replay import ReplayConfig
from learner.choice.trainer import ChoiceTrainingConfig, QLearningConfig


class ChoiceRunConfig(Settings):
    """How long the run is, and what it is called."""

    name: str = Field("choice", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The run directory is runs/<name> unless --run-dir says otherwise."""
    seed: int = Field(0, ge=0)
    """Draws the Q network's first parameters, and the transitions of every update."""
    num_updates: int = Field(1000, ge=1)
    """Steps of the optimizer."""
    checkpoint_every: int = Field(0, ge=0)
    """Updates between checkpoints; 0 saves none but when the run is stopped."""
    num_checkpoints: int = Field(2, ge=1)
    """Checkpoints kept."""


class ChoiceDataConfig(Settings):
    """What was tried before, and what came of it."""

    paths: tuple[Path, ...] = Field(min_length=1)
    """Files of transitions, JSON lines or .parquet."""


class VectorCacheConfig(Settings):
    """Where the vectors of a frozen encoder are kept."""

    folder: Path | None = None
    """null: vectors/ in the run directory. A folder of your own lets runs with the same encoder share what
    was read."""


class ChoiceEvaluationConfig(Settings):
    """What the choices are measured on."""

    paths: tuple[Path, ...] = ()
    """Files of states with the worth of every candidate, JSON lines or .parquet; none: no measurement."""
    every: int = Field(0, ge=0)
    """Updates between measurements; 0 measures before and after."""
    temperature: float = Field(0.0, ge=0.0)
    """Of the exploring policy that is measured beside the best choice: softmax(Q / temperature)."""
    epsilon: float = Field(0.1, ge=0.0, le=1.0)
    """Share of that policy's choices that are made blindly."""


class ChoiceRecipe(Settings):
    """A whole run."""

    run: ChoiceRunConfig = ChoiceRunConfig()
    data: ChoiceDataConfig
    encoder: EncoderConfig = EncoderConfig()
    vectors: VectorCacheConfig = VectorCacheConfig()
    network: QNetworkConfig = QNetworkConfig()
    learning: QLearningConfig = QLearningConfig()
    replay: ReplayConfig = ReplayConfig()
    training: ChoiceTrainingConfig = ChoiceTrainingConfig()
    evaluation: ChoiceEvaluationConfig = ChoiceEvaluationConfig()

    @property
    def chooser(self) -> ChooserConfig:
        """What a trained model needs to be read again."""
        return ChooserConfig(encoder=self.encoder, network=self.network)


def load_choice_recipe(path: Path, overrides: Sequence[str] = ()) -> ChoiceRecipe:
    """The recipe in a file, changed by `key.path=value` overrides.

    Raises:
        UserError: no such file, no YAML, or a wrong setting.
    """
    data = read_recipe(path)
    for override in overrides:
        data = apply_override(data, override)
    return parse(ChoiceRecipe, data)
