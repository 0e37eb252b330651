"""Wordle as an environment: the policy guesses, the environment answers with the colours.

    >                 the prompt
    crane             an action
    BYGBB             an observation
    ...               at most six actions; the last is not answered

The rules are those of reward_service/wordle_game.py; docs/wordle.md tells the whole.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import Field

from antiphon.errors import UserError
from reward_service.wordle_game import NUM_GUESSES, UNKNOWN, as_guess, marks, read_words
from rollout.environments.base import Environment, Step
from rollout.types import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Game:
    """A game under way."""

    answer: str
    num_guesses: int = 0


class Wordle(Environment):
    """A word of five letters, which is the prompt's reference, is to be guessed in six guesses. A guess that
    is not on the list costs as much as any, and is answered by XXXXX."""

    name = "wordle"

    class Config(Environment.Config):
        words: Path = Path("data/wordle/words.txt")
        """The words that may be guessed, one a line."""
        max_tokens: int = Field(128, ge=1)
        """Of all guesses and colours of a game. A model with a token per letter needs 55."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._words = frozenset(read_words(config.words))

    @property
    def max_turns(self) -> int:
        return NUM_GUESSES

    def max_tokens(self, max_new_tokens: int) -> int:
        return self.config.max_tokens

    def start(self, prompt: Prompt, seed: int) -> Game:
        if prompt.reference not in self._words:
            raise UserError(
                f"the answer of prompt {prompt.id}, {prompt.reference!r}, is not in {self.config.words}",
                remedy="use the prompt source wordle with the same words",
            )
        return Game(answer=prompt.reference)

    def step(self, state: Game, action: str, is_cut: bool) -> Step:
        guess, after = as_guess(action), replace(state, num_guesses=state.num_guesses + 1)
        if guess == state.answer or after.num_guesses == NUM_GUESSES:
            return Step(state=after, observation=None, is_done=True)
        said = marks(guess, state.answer) if guess in self._words else UNKNOWN
        return Step(state=after, observation=f"\n{said}\n")
