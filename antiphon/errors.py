"""Mistakes that a person can mend. Everything else is a bug and keeps its traceback."""

import difflib
from collections.abc import Iterable
from functools import partial
from typing import Any


class UserError(Exception):
    """A recipe, file or machine that does not fit; the command line prints it without a traceback.

    Example:
        >>> raise UserError("rollout.num_actors is 9, the cluster has 2 CPUs", remedy="set it to 2")
    """

    def __init__(self, problem: str, *, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        """What rule was broken, and by which value."""
        self.remedy = remedy
        """What to do about it."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels between processes whole: an actor's mistake is told on the driver."""
        return partial(UserError, remedy=self.remedy), (self.problem,)

    def __str__(self) -> str:
        return f"{self.problem}\n  remedy: {self.remedy}"


def suggestion(wrong: str, known: Iterable[str]) -> str:
    """What to write instead of `wrong`: the nearest of the known words, or all of them."""
    words = sorted(known)
    near = difflib.get_close_matches(wrong, words, n=1)
    return f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(words)}"
