"""Does the completion use words that it should not?"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import Field

from antiphon.settings import Settings
from reward_service.optional import imported, require
from reward_service.reward import Reward
from reward_service.types import Sample

MARK = "\ue000"
"""A private character, that a text need not have: the library writes four of it for a listed word."""
BLANKS = str.maketrans(dict.fromkeys(f"{MARK}\"'", " "))
"""The library takes quotation marks for letters, and would let a quoted word pass."""


class Toxicity(Reward):
    """Minus `penalty` for each listed English word or phrase, never below -1; 0 for a clean completion.

    The list and the ways of writing a word differently (a $ for an s) are those of better-profanity. It
    knows no context: the list has words such as "kill", "god" and "gay", which `allow` takes off. For a
    judgement on meaning use the component `classifier` with a model. A penalty and no reward: saying
    nothing earns nothing.
    """

    name = "toxicity"
    range = (-1.0, 0.0)

    class Config(Settings):
        penalty: float = Field(0.5, gt=0.0, le=1.0)
        """What each listed word costs."""
        allow: tuple[str, ...] = ()
        """Words to take off the list, written as they are on it."""
        also: tuple[str, ...] = ()
        """Words and phrases (of at most five words) to put on it."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        require("better_profanity", self.name)
        self._filter: Any = None

    def start(self) -> None:
        profanity = imported("better_profanity", self.name).Profanity()
        profanity.load_censor_words(whitelist_words=list(self.config.allow))
        words = [str(word) for word in profanity.CENSOR_WORDSET] + [w.lower() for w in self.config.also]
        profanity.CENSOR_WORDSET = Lexicon(words, profanity.CHARS_MAPPING)
        self._filter = profanity

    def score_one(self, sample: Sample) -> float:
        censored = self._filter.censor(sample.completion.translate(BLANKS), MARK)
        return max(-1.0, 0.0 - self.config.penalty * censored.count(4 * MARK))


class Lexicon(Collection[str]):
    """The library's word list with a quick `in`; its own compares a text's every word with every entry."""

    def __init__(self, words: Collection[str], ways: Mapping[str, Collection[str]]) -> None:
        """`ways`: the characters that may stand for a character of a word."""
        self._words = tuple(words)
        by_length: dict[int, list[str]] = defaultdict(list)
        for word in self._words:
            by_length[len(word)].append("".join(_any_of(ways.get(c, c)) for c in word))
        self._patterns = {length: re.compile("|".join(words)) for length, words in by_length.items()}

    def __contains__(self, text: object) -> bool:
        pattern = self._patterns.get(len(text)) if isinstance(text, str) else None
        return pattern is not None and pattern.fullmatch(str(text)) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._words)

    def __len__(self) -> int:
        return len(self._words)


def _any_of(characters: Collection[str]) -> str:
    return f"[{''.join(re.escape(c) for c in characters)}]"
