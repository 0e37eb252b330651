"""A reward that is computed in the caller's process: nothing has to start for it."""

from typing import ClassVar

from reward_service.reward import Reward
from reward_service.types import Sample
from tests.system.fakes_parts import by_text


class ByText(Reward):
    """Every text has its own value."""

    name: ClassVar[str] = "by_text"

    def score_one(self, sample: Sample) -> float:
        return by_text(sample.completion)
