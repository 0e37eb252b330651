"""How many words do completion and reference share?"""

import re
from collections import Counter

from antiphon.settings import Settings
from reward_service.reward import Reward, reference_of
from reward_service.types import Sample


class TokenF1(Reward):
    """Harmonic mean of precision and recall over bags of words; punctuation is left out.

    The F1 of SQuAD (Rajpurkar et al. 2016, arXiv:1606.05250), with articles kept.
    """

    name = "token_f1"

    class Config(Settings):
        lower: bool = True
        """Leave case out of the comparison."""

    config: Config

    def score_one(self, sample: Sample) -> float:
        return f1(self._words(sample.completion), self._words(reference_of(sample)))

    def _words(self, text: str) -> list[str]:
        return re.findall(r"\w+", text.lower() if self.config.lower else text)


def f1(words: list[str], expected: list[str]) -> float:
    """2 * shared / (both lengths), a word shared as often as both have it; 1 where both are empty."""
    if not words and not expected:
        return 1.0
    shared = (Counter(words) & Counter(expected)).total()
    return 2.0 * shared / (len(words) + len(expected))
