"""Is the completion's tone the wanted one?"""

import itertools
import re
from typing import Any, Literal

from pydantic import Field

from antiphon.settings import Settings
from reward_service.optional import imported, require
from reward_service.reward import Reward
from reward_service.types import Sample


class Sentiment(Reward):
    """From the compound c in [-1, 1] of VADER (Hutto and Gilbert 2014), a lexicon with rules for English.

    It knows negation, degree, capitals and emoticons, no irony and no context; the component `classifier`
    asks a model instead. c is rounded to four digits by the library.
    """

    name = "sentiment"

    class Config(Settings):
        tone: Literal["positive", "negative", "neutral"] = "positive"
        """positive scores (1 + c) / 2, negative (1 - c) / 2, neutral 1 - |c|; a text without any word of the
        lexicon has c = 0."""
        max_words: int = Field(1000, ge=1)
        """Words after these are not read: the library's time grows with their square."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        require("vaderSentiment", self.name)
        self._analyser: Any = None

    def start(self) -> None:
        library = imported("vaderSentiment.vaderSentiment", self.name)
        self._analyser = library.SentimentIntensityAnalyzer()

    def score_one(self, sample: Sample) -> float:
        text = first_words(sample.completion, self.config.max_words)
        compound = float(self._analyser.polarity_scores(text)["compound"])
        if self.config.tone == "neutral":
            return 1.0 - abs(compound)
        return (1.0 + (compound if self.config.tone == "positive" else -compound)) / 2.0


def first_words(text: str, num_words: int) -> str:
    """The text up to the end of its `num_words`-th word, as white space separates words."""
    ends = (match.end() for match in re.finditer(r"\S+", text))
    return text[: next(itertools.islice(ends, num_words - 1, None), len(text))]
