"""Games of Wordle: every prompt is the same, what differs is the answer."""

import random
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from antiphon.errors import UserError
from antiphon.seeds import derive
from antiphon.settings import Settings
from reward_service.wordle_game import read_words
from rollout.prompts import Example, PromptSource, Split

START = ">"
"""What a game begins with: a model needs a token to speak behind."""


class Wordle(PromptSource):
    """A game for each word of a list, with the word as the reference. Without words that are held out, games
    with all of them are measured, as they are trained on."""

    name: ClassVar[str] = "wordle"

    class Config(Settings):
        words: Path = Path("data/wordle/words.txt")
        """The words that may be the answer, one a line."""
        num_held_out: int = Field(0, ge=0)
        """Words that are never the answer in training, and always in measurements. They may be guessed."""
        seed: int = 0
        """Chooses them. Not the seed of the run: runs stay comparable."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def examples(self) -> Split:
        words, num_held_out = read_words(self.config.words), self.config.num_held_out
        if num_held_out >= len(words):
            raise UserError(
                f"{self.config.words} has {len(words)} words, and num_held_out is {num_held_out}",
                remedy="give more words, or set num_held_out lower",
            )
        draw = random.Random(derive(self.config.seed, "held_out"))
        apart = set(draw.sample(words, num_held_out)) or set(words)
        kept = words if num_held_out == 0 else [word for word in words if word not in apart]
        return Split(
            train=tuple(_game(word) for word in kept),
            held_out=tuple(_game(word) for word in words if word in apart),
            is_closed=True,
        )


def _game(answer: str) -> Example:
    return Example(id=f"wordle/{answer}", content=START, reference=answer)
