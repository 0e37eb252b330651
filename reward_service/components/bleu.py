"""BLEU of one completion against its reference."""

from typing import Literal

from pydantic import Field
from sacrebleu.metrics import BLEU

from antiphon.settings import Settings
from reward_service.reward import Reward, reference_of
from reward_service.types import Sample


class Bleu(Reward):
    """Sentence BLEU (Papineni et al. 2002) as sacrebleu computes it, divided by 100.

    Effective order: n-grams longer than the texts are left out of the mean, so that short answers can
    score; higher orders without a match are smoothed (method 3 of Chen and Cherry 2014).
    """

    name = "bleu"

    class Config(Settings):
        max_ngram_order: int = Field(4, ge=1)
        """The longest n-gram that counts."""
        lower: bool = False
        """Leave case out of the comparison."""
        tokenizer: Literal["13a", "intl", "char", "zh", "none"] = "13a"
        """How sacrebleu finds words: "intl" for other alphabets, "char" or "zh" where no spaces are."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._bleu = BLEU(
            effective_order=True,
            max_ngram_order=config.max_ngram_order,
            lowercase=config.lower,
            tokenize=config.tokenizer,
        )

    def score_one(self, sample: Sample) -> float:
        score = self._bleu.sentence_score(sample.completion, [reference_of(sample)]).score
        # sacrebleu averages logarithms: identical texts give 100.00000000000004.
        return min(score / 100.0, 1.0)
