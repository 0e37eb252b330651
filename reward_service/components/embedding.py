"""How near is the completion to the reference in meaning, as far as an encoder can tell?"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from reward_service.networks.encoding import Ids, TextConfig, TextEncoder
from reward_service.networks.reward import NetworkReward
from reward_service.networks.settings import NetworkConfig
from reward_service.reward import InvalidInput, reference_of
from reward_service.types import Sample

if TYPE_CHECKING:
    from torch import Tensor


class Embedding(NetworkReward):
    """The cosine between the mean-pooled last hidden states of completion and reference.

    Pooled as in Sentence-BERT (Reimers & Gurevych 2019, arXiv:1908.10084): over all tokens of the text, those
    that the tokenizer adds included. An empty completion scores 0.
    """

    name = "embedding"
    range = (-1.0, 1.0)

    class Config(NetworkConfig):
        prefix: str = ""
        """Put before both texts, where the encoder was trained with one ("query: ")."""
        max_length: int | None = Field(None, ge=8)
        """Tokens of a text that the encoder reads at most; null: as many as it can."""
        too_long: Literal["refuse", "cut"] = "refuse"
        """A longer text is invalid input, or its end is left out."""

    config: Config

    def start(self) -> None:
        from reward_service.networks.network import load

        network = load(self._place, "encoder", self.config)
        text = TextConfig(
            form="completion",
            max_length=self.config.max_length,
            too_long="cut_completion" if self.config.too_long == "cut" else "refuse",
        )
        self._encoder = TextEncoder(network.tokenizer, text, network.limit)
        self._network = network

    def rows(self, sample: Sample) -> tuple[Ids, ...]:
        reference = reference_of(sample)
        if not reference.strip():
            raise InvalidInput("the reference is empty: nothing can be near to it")
        if not sample.completion.strip():
            return ()
        texts = (sample.completion, reference)
        return tuple(self._encoder.encode("", self.config.prefix + text) for text in texts)

    def take(self, output: Any, mask: "Tensor") -> "Tensor":
        return mean_pooled(output.last_hidden_state, mask)

    def value(self, vectors: Sequence["Tensor"]) -> float:
        if not vectors:
            return 0.0
        completion, reference = (vector.double() for vector in vectors)
        size = float(completion.norm() * reference.norm())
        # Rounding may lead just out of the range.
        return min(1.0, max(-1.0, float(completion @ reference) / size)) if size > 0.0 else 0.0


def mean_pooled(hidden: "Tensor", mask: "Tensor") -> "Tensor":
    """Σ_t m_t h_t / Σ_t m_t. Hidden states [B, T, D] and mask [B, T] -> [B, D], float32.

    Raises:
        ValueError: other ranks, shapes that do not fit, or a row without a token.
    """
    if hidden.dim() != 3 or hidden.shape[:2] != mask.shape:
        raise ValueError(
            f"want hidden states [B, T, D] and mask [B, T], got {tuple(hidden.shape)}, {tuple(mask.shape)}"
        )
    counts = mask.sum(dim=1, keepdim=True)
    if bool((counts == 0).any()):
        raise ValueError("a text without tokens has no mean")
    return (hidden.float() * mask[:, :, None]).sum(dim=1) / counts
