"""The base of the components that judge by a network: samples in, scores out, the passes shared by a batch.

Derived by reward_service/components/{classifier,reward_model,embedding}.py. Torch and transformers are
imported where the network is loaded, so that processes that only check a recipe stay light.
"""

import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from reward_service.networks.encoding import Ids, TextConfig
from reward_service.networks.places import locate
from reward_service.networks.settings import NetworkConfig
from reward_service.reward import InvalidInput, Placement, Reward
from reward_service.types import Sample, Score

if TYPE_CHECKING:
    from torch import Tensor

    from reward_service.networks.network import Network


class NetworkReward(Reward):
    """Reads all texts of a request in batches of similar length, then scores each sample by its vectors."""

    placement: ClassVar[Placement] = "own"

    class Config(NetworkConfig):
        """No options beside those of the network."""

    config: NetworkConfig

    def __init__(self, config: NetworkConfig) -> None:
        """
        Raises:
            UserError: there is no such model.
        """
        super().__init__(config)
        self._place = locate(config.model)
        self._network: Network | None = None
        self._known: dict[Ids, Tensor] = {}

    @abstractmethod
    def rows(self, sample: Sample) -> tuple[Ids, ...]:
        """The token ids of the texts that the sample's score needs.

        Raises:
            InvalidInput: the sample cannot be scored.
        """

    @abstractmethod
    def take(self, output: Any, mask: "Tensor") -> "Tensor":
        """The vectors [B, D] of a batch, out of what the network returned for it and its mask [B, T]."""

    @abstractmethod
    def value(self, vectors: Sequence["Tensor"]) -> float:
        """The score of a sample from the vectors [D] of its `rows`, in the same order."""

    @property
    def network(self) -> "Network":
        """The network; RuntimeError before `start`."""
        if self._network is None:
            raise RuntimeError("start() comes before score()")
        return self._network

    def score_one(self, sample: Sample) -> float:
        return self.value([self._vector(row) for row in self.rows(sample)])

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        start_s = time.perf_counter()
        self._known = self._read_together(samples)
        scores = [self._contained(sample) for sample in samples]
        self._known = {}
        latency_s = time.perf_counter() - start_s
        return [replace(score, latency_s=latency_s) for score in scores]

    def _read_together(self, samples: Sequence[Sample]) -> dict[Ids, "Tensor"]:
        """The vectors of all texts. What goes wrong here is met again, and told, by the sample it is of."""
        rows: set[Ids] = set()
        for sample in samples:
            try:
                rows.update(self.rows(sample))
            except Exception:  # Tokenizers and templates of others read untrusted text.
                continue
        try:
            return self.network.read(rows, self.take)
        except Exception:  # Out of memory, say: text by text it may go.
            return {}

    def _vector(self, row: Ids) -> "Tensor":
        return self._known[row] if row in self._known else self.network.read([row], self.take)[row]


class PromptConfig(TextConfig):
    """For components that read the prompt, too."""

    prompt_key: str | None = None
    """The entry of the sample's metadata that holds the prompt as the network should read it. The sample's
    own prompt is what the policy saw, the words of its chat template included. None: that one."""


def prompt_of(sample: Sample, key: str | None) -> str:
    """The prompt that the network should read.

    Raises:
        InvalidInput: the metadata has no text under the key.
    """
    if key is None:
        return sample.prompt
    prompt = sample.metadata.get(key)
    if not isinstance(prompt, str):
        raise InvalidInput(f"metadata has no text {key!r}; name the column under data.metadata")
    return prompt
