"""TER: how many edits and moves lead from the completion to the reference?"""

from typing import Literal

from sacrebleu.metrics import TER
from sacrebleu.tokenizers.tokenizer_ter import TercomTokenizer

from antiphon.settings import Settings
from reward_service.reward import InvalidInput, Reward, reference_of
from reward_service.types import Sample


class Ter(Reward):
    """From the translation edit rate E (Snover et al. 2006) as sacrebleu computes it, divided by 100.

    E = (insertions + deletions + substitutions + moves of a phrase) / words of the reference. The search
    for moves is slow: 0.05 s for 20 words in disorder, 1.5 s for 100, 20 s for 400.
    """

    name = "ter"
    # E has no upper bound, so that its negative has no lower one.
    range = (float("-inf"), 1.0)
    placement = "isolated"

    class Config(Settings):
        form: Literal["accuracy", "negative"] = "accuracy"
        """"accuracy" scores 1 - min(E, 1), between 0 and 1; "negative" scores -E, which goes on falling
        as more wrong text is added, and is slow for long completions."""
        lower: bool = True
        """Leave case out of the comparison, as sacrebleu does unless told otherwise."""
        normalized: bool = False
        """Separate punctuation from words before counting."""
        no_punct: bool = False
        """Leave punctuation out."""
        asian_support: bool = False
        """Every Chinese or Japanese character is a word; set `normalized` too."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        options = config.model_dump(include={"normalized", "no_punct", "asian_support"})
        self._words = TercomTokenizer(**options)
        self._ter = TER(**options, case_sensitive=not config.lower)

    def score_one(self, sample: Sample) -> float:
        reference = reference_of(sample)
        num_expected = len(self._words(reference.strip()).split())
        if num_expected == 0:
            raise InvalidInput("the reference is empty: no error rate is defined")
        if self.config.form == "negative":
            return 0.0 - self._rate(sample.completion, reference)
        # Moves keep the length, so that E is at least the difference in length: no search is needed to
        # know that twice the words are all wrong, and no completion can make the search long.
        if len(self._words(sample.completion.strip()).split()) >= 2 * num_expected:
            return 0.0
        return 1.0 - min(self._rate(sample.completion, reference), 1.0)

    def _rate(self, completion: str, reference: str) -> float:
        return self._ter.sentence_score(completion, [reference]).score / 100.0
