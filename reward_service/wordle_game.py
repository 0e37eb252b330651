"""The game of Wordle: five letters to be guessed in six guesses, each answered by the colours of its letters.

Built anew from the description in the paper on implicit language Q-learning (Snell et al. 2022,
arXiv:2206.11871). The component `wordle` scores by it, the environment `wordle` plays it; it knows neither
samples nor prompts.

    marks("speed", "abide") == "BBYBY"        G right place, Y another place, B not there (again)
"""

import re
from dataclasses import dataclass
from pathlib import Path

from antiphon.errors import UserError

NUM_LETTERS = 5
NUM_GUESSES = 6
RIGHT, ELSEWHERE, ABSENT = "G", "Y", "B"
UNKNOWN = "X" * NUM_LETTERS
"""The answer to a guess that is no word of the list: it is lost."""
WORD = re.compile(f"[a-z]{{{NUM_LETTERS}}}")
_ROUND = re.compile(f"(.*?)([{RIGHT}{ELSEWHERE}{ABSENT}X]{{{NUM_LETTERS}}})", re.DOTALL)


def marks(guess: str, answer: str) -> str:
    """The colour of each letter of the guess. A letter is marked as often as the answer has it: in its right
    places first, then from left to right.

    Raises:
        ValueError: the two are not of one length.
    """
    if len(guess) != len(answer):
        raise ValueError(f"a guess has the length of the answer, got {guess!r} and {len(answer)} letters")
    left = [a for g, a in zip(guess, answer, strict=True) if g != a]
    found = []
    for g, a in zip(guess, answer, strict=True):
        if g == a:
            found.append(RIGHT)
        elif g in left:
            left.remove(g)
            found.append(ELSEWHERE)
        else:
            found.append(ABSENT)
    return "".join(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a game ended."""

    num_wrong: int
    """Guesses that were not the answer; NUM_GUESSES where the game was not won."""
    is_won: bool


LOST = Outcome(num_wrong=NUM_GUESSES, is_won=False)


def outcome(transcript: str, answer: str) -> Outcome:
    """What a game came to, read off what was said in it: guess, marks, guess, marks, …, guess.

    The marks are not believed: a transcript with other marks than the answer gives, as a policy might write
    them itself, is lost, and so is a game that was broken off.
    """
    num_wrong = end = 0
    for match in _ROUND.finditer(transcript):
        guess, said = as_guess(match[1]), match[2]
        is_told = len(guess) == len(answer) and said == marks(guess, answer)
        if guess == answer or not (is_told or said == UNKNOWN):
            return LOST
        num_wrong, end = num_wrong + 1, match.end()
    is_won = num_wrong < NUM_GUESSES and as_guess(transcript[end:]) == answer
    return Outcome(num_wrong=num_wrong, is_won=True) if is_won else LOST


def as_guess(text: str) -> str:
    """What somebody wrote, as a word."""
    return text.strip().lower()


def read_words(path: Path) -> tuple[str, ...]:
    """The words of a list, one a line.

    Raises:
        UserError: it cannot be read, is empty, or a line is no word of five small letters.
    """
    try:
        words = path.expanduser().read_text().split()
    except OSError as error:
        raise UserError(
            f"the list of words {path} cannot be read: {error.strerror}",
            remedy="make one: python -m recipes.make_wordle (see docs/wordle.md), or set words to a file",
        ) from None
    strange = [word for word in words if not WORD.fullmatch(word)]
    if strange or not words:
        what = f"{strange[0]!r} in it is none" if strange else "it is empty"
        raise UserError(
            f"{path} is no list of words of {NUM_LETTERS} small letters: {what}",
            remedy="give a file with one such word a line",
        )
    return tuple(dict.fromkeys(words))
