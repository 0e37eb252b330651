"""How many edits lead from the completion to the reference?"""

from collections.abc import Callable
from typing import ClassVar, Literal

import jiwer

from antiphon.settings import Settings
from reward_service.reward import InvalidInput, Reward, reference_of
from reward_service.types import Sample


class ErrorRate(Reward):
    """From the error rate E = (substitutions + deletions + insertions) / length of the reference."""

    # E has no upper bound, so that its negative has no lower one.
    range = (float("-inf"), 1.0)
    _rate: ClassVar[Callable[[str, str], float]]

    class Config(Settings):
        form: Literal["accuracy", "negative"] = "accuracy"
        """"accuracy" scores 1 - min(E, 1), between 0 and 1; "negative" scores -E, which goes on falling
        as more wrong text is added."""
        lower: bool = False
        """Leave case out of the comparison."""

    config: Config

    def score_one(self, sample: Sample) -> float:
        reference, completion = reference_of(sample), sample.completion
        if not reference.strip():
            raise InvalidInput("the reference is empty: no error rate is defined")
        if self.config.lower:
            reference, completion = reference.lower(), completion.lower()
        rate = type(self)._rate(reference, completion)
        return -rate if self.config.form == "negative" else 1.0 - min(rate, 1.0)


class CharacterErrorRate(ErrorRate):
    """Edits of characters."""

    name = "cer"
    _rate = staticmethod(jiwer.cer)


class WordErrorRate(ErrorRate):
    """Edits of words."""

    name = "wer"
    _rate = staticmethod(jiwer.wer)
