"""How was the game of Wordle that the completion tells?"""

from typing import Literal

from antiphon.settings import Settings
from reward_service.reward import Reward, reference_of
from reward_service.types import Sample
from reward_service.wordle_game import NUM_GUESSES, outcome


class Wordle(Reward):
    """Minus the guesses that were not the answer: 0 for the answer at once, −5 for the sixth guess, −6 for a
    game that was lost. The reference is the answer."""

    name = "wordle"
    range = (-float(NUM_GUESSES), 1.0)

    class Config(Settings):
        form: Literal["guesses", "won"] = "guesses"
        """`won` gives 1 for a game that was won and 0 for any other."""

    config: Config

    def score_one(self, sample: Sample) -> float:
        found = outcome(sample.completion, reference_of(sample))
        return float(found.is_won) if self.config.form == "won" else -float(found.num_wrong)
