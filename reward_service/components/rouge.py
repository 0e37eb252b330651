"""ROUGE-1, ROUGE-2 and ROUGE-L of one completion against its reference."""

import re
from typing import Literal

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

from antiphon.settings import Settings
from reward_service.reward import InvalidInput, Reward, reference_of
from reward_service.types import Sample


class Rouge(Reward):
    """F-measure (Lin 2004) as rouge-score computes it; the base of the three below."""

    class Config(Settings):
        stemming: bool = False
        """Compare English words by their stems."""
        tokenizer: Literal["ascii", "unicode"] = "ascii"
        """What a word is: "ascii" as in rouge-score, a-z and 0-9 only; "unicode" for other alphabets."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._tokenizer = (
            DefaultTokenizer(config.stemming) if config.tokenizer == "ascii" else UnicodeTokenizer()
        )
        self._scorer = RougeScorer([self.name], tokenizer=self._tokenizer)
        self._by_words = RougeScorer(["rouge1"], tokenizer=self._tokenizer)

    def score_one(self, sample: Sample) -> float:
        reference = reference_of(sample)
        num_words = len(self._tokenizer.tokenize(reference))
        if num_words == 0:
            raise InvalidInput(f"the reference {reference!r} has no word that the tokenizer knows")
        if num_words == 1:
            # Effective order: a reference of one word has no bigram that could be matched.
            return float(self._by_words.score(reference, sample.completion)["rouge1"].fmeasure)
        return float(self._scorer.score(reference, sample.completion)[self.name].fmeasure)


class Rouge1(Rouge):
    """Shared words."""

    name = "rouge1"


class Rouge2(Rouge):
    """Shared pairs of neighbouring words; shared words where the reference has only one."""

    name = "rouge2"


class RougeL(Rouge):
    """The longest common subsequence of words."""

    name = "rougeL"


class UnicodeTokenizer:
    """Words of any alphabet, without case."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"\w+", text.lower())
