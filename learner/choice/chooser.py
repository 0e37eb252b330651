"""A trained model as a folder, and what uses it: a state and candidate actions in, a choice out.

<folder>/  choice.json (settings)  choice.safetensors (Q network)  encoder/ (only where it was trained)
"""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from antiphon.errors import UserError
from antiphon.settings import Settings, parse
from learner.choice.encoder import Encoder, EncoderConfig, load_encoder
from learner.choice.network import QNetwork, QNetworkConfig
from learner.functional.choice import policy

SETTINGS, WEIGHTS, ENCODER = "choice.json", "choice.safetensors", "encoder"


class ChooserConfig(Settings):
    """What choice.json holds."""

    encoder: EncoderConfig
    network: QNetworkConfig


class Chooser:
    """Values and chooses.

    Example:
        >>> chooser = load_chooser(Path("runs/answer_choice/model"))
        >>> chooser.choose("How many legs have three dogs?", ["12 legs.", "It takes 3 hours."])
        0
    """

    def __init__(self, encoder: Encoder, network: QNetwork, config: EncoderConfig) -> None:
        self._encoder, self._network, self._config = encoder.eval(), network.eval(), config

    @torch.inference_mode()
    def values(self, state: str, actions: Sequence[str]) -> list[float]:
        """Q of each action in the state.

        Raises:
            UserError: a text that the encoder cannot read.
        """
        texts = [self._config.state_prefix + state, *(self._config.action_prefix + a for a in actions)]
        vectors = torch.cat([self._encoder([self._encoder.ids(text)]) for text in texts])
        vectors = vectors.to(next(self._network.parameters()).device)
        values: list[float] = self._network(vectors[:1], vectors[None, 1:])[0].tolist()
        return values

    def choose(
        self,
        state: str,
        actions: Sequence[str],
        *,
        temperature: float = 0.0,
        epsilon: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> int:
        """The number of the chosen action: the best, or one drawn from (1 − ε) softmax(Q / T) + ε / n.

        Args:
            generator: draws; None: torch's own.

        Raises:
            UserError: no action, or a text that the encoder cannot read.
        """
        if not actions:
            raise UserError("there is no action to choose from", remedy="give at least one")
        q = torch.tensor([self.values(state, actions)], dtype=torch.float64)
        probabilities = policy(q, torch.ones_like(q, dtype=torch.bool), temperature, epsilon)[0]
        return int(torch.multinomial(probabilities, 1, generator=generator))


def save_chooser(folder: Path, encoder: Encoder, network: QNetwork, config: ChooserConfig) -> None:
    """Write the folder, which must not exist. Not atomic: the caller renames."""
    folder.mkdir(parents=True)
    save_file(
        {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}, folder / WEIGHTS
    )
    if config.encoder.is_trained:
        encoder.save(folder / ENCODER)
        # What was saved has no more layers than are run.
        changes = {"model": ENCODER, "num_layers": None}
        config = config.model_copy(update={"encoder": config.encoder.model_copy(update=changes)})
    (folder / SETTINGS).write_text(json.dumps(config.model_dump(mode="json"), indent=2) + "\n")


def load_chooser(folder: Path) -> Chooser:
    """What `save_chooser` wrote.

    Raises:
        UserError: no such folder, or the encoder is not to be found.
    """
    try:
        text = (folder / SETTINGS).read_text()
    except OSError as error:
        raise UserError(
            f"{folder} holds no choice model: {error.strerror}", remedy="name the folder model/ of a run"
        ) from None
    config = parse(ChooserConfig, json.loads(text))
    place = config.encoder
    if place.is_trained:
        place = place.model_copy(update={"model": str(folder / ENCODER)})
    encoder = load_encoder(place, seed=0)
    network = QNetwork(config.network, encoder.size, seed=0)
    network.load_state_dict(load_file(folder / WEIGHTS))
    return Chooser(encoder, network.to(encoder.device), config.encoder)
