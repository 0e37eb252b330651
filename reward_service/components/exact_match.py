"""Is the completion the reference?"""

from antiphon.settings import Settings
from reward_service.reward import Reward, reference_of
from reward_service.types import Sample


class ExactMatch(Reward):
    """1 where completion and reference are the same text, else 0."""

    name = "exact_match"

    class Config(Settings):
        strip: bool = True
        """Leave white space at both ends out of the comparison."""
        lower: bool = False
        """Leave case out of the comparison."""

    config: Config

    def score_one(self, sample: Sample) -> float:
        return float(self._normal(sample.completion) == self._normal(reference_of(sample)))

    def _normal(self, text: str) -> str:
        text = text.strip() if self.config.strip else text
        return text.lower() if self.config.lower else text
