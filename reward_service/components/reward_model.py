"""A reward model: a sequence classifier with one output, trained on preferences (Bradley & Terry 1952).

`antiphon train-reward-model` makes one; any Hugging Face classifier with `num_labels: 1` is one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from antiphon.errors import UserError
from antiphon.settings import Settings, parse
from reward_service.networks.encoding import Ids, TextConfig, TextEncoder
from reward_service.networks.places import check_is_classifier, folder_facts
from reward_service.networks.reward import NetworkReward, PromptConfig, prompt_of
from reward_service.networks.settings import NetworkConfig
from reward_service.types import Sample

if TYPE_CHECKING:
    from torch import Tensor

REPORT = "report.json"
"""What `antiphon train-reward-model` leaves beside the weights: `input` and `values` are read here."""


class Values(Settings):
    """What the model gave to the held-out answers when it was trained."""

    mean: float = Field(0.0, allow_inf_nan=False)
    std: float = Field(1.0, gt=0.0, allow_inf_nan=False)


class RewardModel(NetworkReward):
    """The output of the model for prompt and completion; on its own scale, or normalized."""

    name = "reward_model"
    range = (float("-inf"), float("inf"))

    class Config(NetworkConfig, PromptConfig):
        """`form`, `max_length` and `too_long` are those that the folder's report.json names, where it has
        one and the recipe does not set them."""

        is_normalized: bool = False
        """(value − mean) / std, with the mean and std over held-out answers that the folder's report.json
        states. Makes weights comparable with those of components between 0 and 1."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        check_is_classifier(self._place, config.model)
        labels = folder_facts(self._place).get("id2label")
        if labels is not None:
            _check_one_output(len(labels), config.model)
        self._text, self._values = _from_report(self._place, config)

    def start(self) -> None:
        from reward_service.networks.network import load

        network = load(self._place, "classifier", self.config)
        _check_one_output(network.model.config.num_labels, self.config.model)
        self._encoder = TextEncoder(network.tokenizer, self._text, network.limit)
        self._network = network

    def rows(self, sample: Sample) -> tuple[Ids, ...]:
        return (self._encoder.encode(prompt_of(sample, self.config.prompt_key), sample.completion),)

    def take(self, output: Any, mask: "Tensor") -> "Tensor":
        logits: Tensor = output.logits
        return logits

    def value(self, vectors: Sequence["Tensor"]) -> float:
        return (float(vectors[0]) - self._values.mean) / self._values.std


def _from_report(place: Path | str, config: RewardModel.Config) -> tuple[TextConfig, Values]:
    """How texts are read and values normalized: the folder's word, unless the recipe's differs."""
    report = folder_facts(place, REPORT)
    where = f"{place}/{REPORT}"
    own = {name: getattr(config, name) for name in TextConfig.model_fields if name in config.model_fields_set}
    text = parse(TextConfig, {**report.get("input", {}), **own}, f"{where}: input")
    if not config.is_normalized:
        return text, Values()
    if "values" not in report:
        raise UserError(
            f"is_normalized is set, and {place} has no {REPORT} with values",
            remedy="leave it out, and let the reward's own normalization do it",
        )
    return text, parse(Values, report["values"], f"{where}: values")


def _check_one_output(num_outputs: int, name: str) -> None:
    if num_outputs != 1:
        raise UserError(
            f"{name!r} has {num_outputs} outputs, a reward model has one",
            remedy="use the component classifier, and name a label",
        )
