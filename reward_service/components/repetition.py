"""Does the completion repeat itself?"""

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from antiphon.settings import Settings
from reward_service.reward import Reward
from reward_service.types import Sample


class Repetition(Reward):
    """Minus the share of n-grams that were there before: 0 where none is, near -1 for a loop.

    It is distinct-n (Li et al. 2016, arXiv:1510.03055) of one completion, less 1. A penalty and no reward:
    saying nothing earns nothing.
    """

    name = "repetition"
    range = (-1.0, 0.0)

    class Config(Settings):
        ngram: int = Field(3, ge=1)
        """How many neighbours make one n-gram; small numbers punish ordinary language too."""
        unit: Literal["words", "characters"] = "words"
        """What is counted: words without case and punctuation, or characters as they are, white space
        too, for languages without spaces."""

    config: Config

    def score_one(self, sample: Sample) -> float:
        return 0.0 - repeated_share(self._units(sample.completion), self.config.ngram)

    def _units(self, text: str) -> Sequence[str]:
        return re.findall(r"\w+", text.casefold()) if self.config.unit == "words" else text


def repeated_share(units: Sequence[str], ngram: int) -> float:
    """1 - distinct n-grams / all n-grams; 0 where the text is shorter than one n-gram.

    Raises:
        ValueError: an n-gram of no units.
    """
    if ngram < 1:
        raise ValueError(f"an n-gram has at least 1 unit, got {ngram}")
    ngrams = [tuple(units[i : i + ngram]) for i in range(len(units) - ngram + 1)]
    return 1.0 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0
