"""The verifiers of reasoning-gym (Stojanovski et al. 2025, arXiv:2505.24760)."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

from antiphon.errors import UserError, suggestion
from antiphon.settings import Settings
from reward_service.reward import InvalidInput, Reward
from reward_service.types import Sample


class ReasoningGym(Reward):
    """What the data set's own `score_answer` says of the completion.

    The sample's metadata carries the data set's item as `entry`, with its question, answer and metadata.
    """

    name = "reasoning_gym"
    # A hundred verifiers by many hands; some evaluate what the policy writes.
    placement = "isolated"

    class Config(Settings):
        dataset: str
        """The data set whose verifier is asked, chain_sum for instance."""
        tag: str | None = None
        """Only what stands in the last <tag>...</tag> is the answer; without it, the whole completion."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._score_answer = _verifier(config.dataset)

    def score_one(self, sample: Sample) -> float:
        entry = sample.metadata.get("entry")
        if not isinstance(entry, Mapping):
            raise InvalidInput("metadata has no entry of reasoning-gym; use that prompt source")
        return self._score_answer(self._answer(sample.completion), dict(entry))

    def _answer(self, completion: str) -> str | None:
        if self.config.tag is None:
            return completion.strip()
        _, opened, rest = completion.rpartition(f"<{self.config.tag}>")
        answer, closed, _ = rest.partition(f"</{self.config.tag}>")
        return answer.strip() if opened and closed else None


def _verifier(dataset: str) -> Callable[[str | None, dict[str, Any]], float]:
    # An extra of the package: recipes that do not ask for it must load without.
    if importlib.util.find_spec("reasoning_gym") is None:
        raise UserError(
            "the component reasoning_gym needs a package that is not installed",
            remedy="pip install 'antiphon[data]'",
        )
    factory = importlib.import_module("reasoning_gym.factory")
    if dataset not in factory.DATASETS:
        raise UserError(
            f"reasoning-gym has no data set called {dataset!r}", remedy=suggestion(dataset, factory.DATASETS)
        )
    verifier: Callable[[str | None, dict[str, Any]], float] = factory.get_score_answer_fn(dataset)
    return verifier
