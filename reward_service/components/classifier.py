"""What any Hugging Face sequence classifier thinks of the completion: toxicity, sentiment, language."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from antiphon.errors import UserError, suggestion
from reward_service.networks.encoding import Form, Ids, TextEncoder
from reward_service.networks.places import check_is_classifier, folder_facts
from reward_service.networks.reward import NetworkReward, PromptConfig, prompt_of
from reward_service.networks.settings import NetworkConfig
from reward_service.types import Sample

if TYPE_CHECKING:
    from torch import Tensor


class Classifier(NetworkReward):
    """The probability of one label. A label to be avoided gets a negative weight."""

    name = "classifier"

    class Config(NetworkConfig, PromptConfig):
        form: Form | None = "completion"
        """`completion`: the completion alone; `pair`: prompt and completion as two segments; `chat`: both in
        the tokenizer's chat template. null: chat where there is a template, else pair."""
        target: str = Field(min_length=1)
        """The label whose probability is the score: its name in the model's config, or its number."""
        activation: Literal["softmax", "sigmoid"] | None = None
        """softmax: exactly one label holds; sigmoid: each holds or not. null: as the model's config says;
        softmax where it does not."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        check_is_classifier(self._place, config.model)
        labels = folder_facts(self._place).get("id2label")
        if labels:
            label_number({int(i): str(label) for i, label in labels.items()}, config.target)

    def start(self) -> None:
        from reward_service.networks.network import load

        network = load(self._place, "classifier", self.config)
        model_config = network.model.config
        self._number = label_number(model_config.id2label, self.config.target)
        self._is_multiple = (self.config.activation or _stated(model_config)) == "sigmoid"
        self._encoder = TextEncoder(network.tokenizer, self.config, network.limit)
        self._network = network

    def rows(self, sample: Sample) -> tuple[Ids, ...]:
        return (self._encoder.encode(prompt_of(sample, self.config.prompt_key), sample.completion),)

    def take(self, output: Any, mask: "Tensor") -> "Tensor":
        logits: Tensor = output.logits.float()
        return logits.sigmoid() if self._is_multiple else logits.softmax(dim=-1)

    def value(self, vectors: Sequence["Tensor"]) -> float:
        return float(vectors[0][self._number])


def label_number(labels: Mapping[int, str], label: str) -> int:
    """The number of the label with this name, without regard to case, or with this number.

    Raises:
        UserError: the model has no such label.
    """
    known = {name.lower(): number for number, name in labels.items()}
    known |= {str(number): number for number in labels}
    if label.lower() not in known:
        raise UserError(f"the classifier has no label {label!r}", remedy=suggestion(label, labels.values()))
    return known[label.lower()]


def _stated(model_config: Any) -> str:
    """The activation that fits what the model was trained for."""
    is_multiple = model_config.problem_type == "multi_label_classification" or len(model_config.id2label) == 1
    return "sigmoid" if is_multiple else "softmax"
