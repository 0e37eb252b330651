"""The scripted player whose games of Wordle recipes/make_wordle.py logs: four characters of mixed skill.

careful    any of the words that all colours so far allow
greedy     any of the words that keep the green letters where they are, whatever the other colours say
random     any word
stubborn   every other time one of its own earlier guesses, else any word

A player has one character for a whole game. Somebody who sees only the game does not know which: the
probability of a guess is the mean over characters, each weighted by how well it explains the guesses so far.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from reward_service.wordle_game import RIGHT, marks

Chances = NDArray[np.float64]
"""A probability for each word of a list."""
SKILLS = {"careful": 0.3, "greedy": 0.25, "random": 0.25, "stubborn": 0.2}
"""The share of games that each character plays."""


class Lexicon:
    """A list of words, and the colours of each as a guess for each."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self._said = np.array([[marks(guess, answer) for answer in words] for guess in words])
        self._letters = np.array([list(word) for word in words])

    def marks(self, guess: int, answer: int) -> str:
        return str(self._said[guess, answer])

    def careful(self, history: Sequence[tuple[int, str]]) -> Chances:
        return _even([self._said[guess] == said for guess, said in history], len(self.words))

    def greedy(self, history: Sequence[tuple[int, str]]) -> Chances:
        kept = [
            (self._letters == self._letters[guess])[:, place]
            for guess, said in history
            for place, colour in enumerate(said)
            if colour == RIGHT
        ]
        return _even(kept, len(self.words))

    def random(self, history: Sequence[tuple[int, str]]) -> Chances:
        return _even([], len(self.words))

    def stubborn(self, history: Sequence[tuple[int, str]]) -> Chances:
        if not history:
            return self.random(history)
        own = np.zeros(len(self.words))
        for guess, _ in history:
            own[guess] += 0.5 / len(history)
        return own + 0.5 * self.random(history)

    def letter_chances(self, guess: int, chances: Chances) -> list[float]:
        """The probability of each letter of a guess, given the letters before it."""
        is_same = (self._letters == self._letters[guess]).cumprod(axis=1).astype(bool)
        masses = [float(chances.sum()), *(float(chances[same].sum()) for same in is_same.T)]
        return [after / before for before, after in pairwise(masses)]


class ScriptedPlayer:
    """One game of one player.

    Example:
        >>> guess, chances = player.guess()
        >>> player.hear(guess, "BYGBB")
    """

    def __init__(self, lexicon: Lexicon, random: np.random.Generator) -> None:
        self._lexicon = lexicon
        self._random = random
        self._history: list[tuple[int, str]] = []
        self._beliefs = np.array(list(SKILLS.values()))
        self.skill = str(random.choice(list(SKILLS), p=self._beliefs))

    def guess(self) -> tuple[int, Chances]:
        """A word by its number, and what an onlooker would have bet on each."""
        own = self._chances()[list(SKILLS).index(self.skill)]
        return int(self._random.choice(len(own), p=own)), self._beliefs @ self._chances()

    def hear(self, guess: int, said: str) -> None:
        """The colours of a guess."""
        beliefs = self._beliefs * self._chances()[:, guess]
        self._beliefs = beliefs / beliefs.sum()
        self._history.append((guess, said))

    def _chances(self) -> Chances:
        """[characters, words]"""
        return np.stack([getattr(self._lexicon, skill)(self._history) for skill in SKILLS])


def _even(conditions: Sequence[NDArray[np.bool_]], num_words: int) -> Chances:
    """The same chance for every word that meets all conditions."""
    allowed = np.ones(num_words, dtype=bool)
    for condition in conditions:
        allowed &= condition
    chances: Chances = allowed / allowed.sum()
    return chances
