"""The order in which logged groups are read: endless passes over all pieces, each in an order of its own.

Some pieces at a time are read and their groups mixed, so that data larger than memory is shuffled too.
"""

import random
from collections.abc import Mapping
from typing import Any

from antiphon.seeds import derive
from learner.logged import Logged
from rollout.types import Group

PIECES_AT_ONCE = 4
"""Pieces whose groups are mixed with each other; see trajectories.TOKENS_AT_ONCE for their size."""


class LoggedStream:
    """Every group once per pass. Where it stands is three numbers; what it would read next follows from them.

    Example:
        >>> stream = LoggedStream(logged, seed=0)
        >>> first = stream.next()
    """

    def __init__(self, logged: Logged, seed: int) -> None:
        self._logged = logged
        self._seed = seed
        self._pass = self._handful = self._offset = 0
        self._groups: list[Group] | None = None
        """Of the handful of pieces at hand; None until they are read."""

    @property
    def num_passes(self) -> int:
        """Passes that are over. It grows with the last group of a pass, not with the first of the next."""
        return self._pass

    def next(self) -> Group:
        """The next group.

        Raises:
            UserError: see Logged.read.
        """
        if self._groups is None:
            self._groups = self._read()
        group = self._groups[self._offset]
        self._offset += 1
        if self._offset == len(self._groups):
            self._turn()
        return group

    def state_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"pass": self._pass, "handful": self._handful, "offset": self._offset}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._pass, self._handful, self._offset = state["pass"], state["handful"], state["offset"]
        self._groups = None

    def _read(self) -> list[Group]:
        """The groups of the handful at hand, mixed."""
        order = random.Random(derive(self._seed, "logged", self._pass)).sample(
            range(self._logged.num_pieces), self._logged.num_pieces
        )
        start = self._handful * PIECES_AT_ONCE
        groups = [g for piece in order[start : start + PIECES_AT_ONCE] for g in self._logged.read(piece)]
        random.Random(derive(self._seed, "logged", self._pass, self._handful)).shuffle(groups)
        return groups

    def _turn(self) -> None:
        """To the next handful, or the next pass."""
        self._groups, self._offset = None, 0
        self._handful += 1
        if self._handful * PIECES_AT_ONCE >= self._logged.num_pieces:
            self._pass, self._handful = self._pass + 1, 0
