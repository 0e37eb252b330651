"""chrF of one completion against its reference."""

from pydantic import Field
from sacrebleu.metrics import CHRF

from antiphon.settings import Settings
from reward_service.reward import Reward, reference_of
from reward_service.types import Sample


class Chrf(Reward):
    """Character n-gram F-score (Popović 2015) as sacrebleu computes it, divided by 100.

    Kinder than BLEU to short texts and to languages with many word forms.
    """

    name = "chrf"

    class Config(Settings):
        char_order: int = Field(6, ge=1)
        """The longest character n-gram that counts."""
        word_order: int = Field(0, ge=0)
        """Words count too, up to this n-gram; 2 is chrF++."""
        beta: int = Field(2, ge=1)
        """Recall weighs this many times as much as precision."""
        lower: bool = False
        """Leave case out of the comparison."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._chrf = CHRF(
            char_order=config.char_order,
            word_order=config.word_order,
            beta=config.beta,
            lowercase=config.lower,
        )

    def score_one(self, sample: Sample) -> float:
        score = self._chrf.sentence_score(sample.completion, [reference_of(sample)]).score
        return min(score / 100.0, 1.0)
