"""Transitions and choices as tensors of numbers, each of which stands for a text.

A state and an action with the same words are two texts where their prefixes differ. −1 stands for no text.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from learner.choice.transitions import Choice, Transition

NOTHING = -1


class Texts:
    """Gives each different text a number, from 0 in the order of their coming."""

    def __init__(self, state_prefix: str = "", action_prefix: str = "") -> None:
        self._prefixes = (state_prefix, action_prefix)
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def state(self, text: str) -> int:
        return self._number(self._prefixes[0] + text)

    def action(self, text: str) -> int:
        return self._number(self._prefixes[1] + text)

    def _number(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))

    def as_read(self) -> list[str]:
        """All texts, prefixes included, by number."""
        return list(self._numbers)


@dataclass(frozen=True, kw_only=True)
class TransitionTable:
    """N transitions with at most A candidates, and at most A' in the next state."""

    state: Tensor
    """[N] int64."""
    actions: Tensor
    """[N, A] int64, filled up with NOTHING."""
    taken: Tensor
    """[N] int64, the column of the action that was taken."""
    reward: Tensor
    """[N] float32."""
    next_state: Tensor
    """[N] int64, NOTHING where done."""
    next_actions: Tensor
    """[N, A'] int64, filled up with NOTHING; all of it where done."""
    is_done: Tensor
    """[N] bool."""

    @classmethod
    def of(cls, transitions: Sequence[Transition], texts: Texts) -> "TransitionTable":
        return cls(
            state=torch.tensor([texts.state(t.state) for t in transitions]),
            actions=_filled([[texts.action(a) for a in t.actions] for t in transitions]),
            taken=torch.tensor([t.taken for t in transitions]),
            reward=torch.tensor([t.reward for t in transitions], dtype=torch.float32),
            next_state=torch.tensor(
                [NOTHING if t.is_done else texts.state(t.next_state) for t in transitions]
            ),
            next_actions=_filled([[texts.action(a) for a in t.next_actions] for t in transitions]),
            is_done=torch.tensor([t.is_done for t in transitions]),
        )

    def __len__(self) -> int:
        return len(self.state)

    @property
    def taken_action(self) -> Tensor:
        """[N] int64, the text of the action that was taken."""
        return self.actions.gather(1, self.taken[:, None])[:, 0]

    def rows(self, numbers: Tensor) -> "TransitionTable":
        """These transitions, in this order. [n] int64"""
        return TransitionTable(**{f.name: getattr(self, f.name)[numbers] for f in fields(self)})

    def to(self, device: torch.device) -> "TransitionTable":
        return TransitionTable(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@dataclass(frozen=True, kw_only=True)
class ChoiceTable:
    """M states with at most A candidates."""

    state: Tensor
    """[M] int64."""
    actions: Tensor
    """[M, A] int64, filled up with NOTHING."""
    values: Tensor
    """[M, A] float64, what each candidate is worth; 0 where there is none."""

    @classmethod
    def of(cls, choices: Sequence[Choice], texts: Texts) -> "ChoiceTable":
        actions = _filled([[texts.action(a) for a in c.actions] for c in choices])
        values = torch.zeros(actions.shape, dtype=torch.float64)
        values[actions != NOTHING] = torch.tensor([v for c in choices for v in c.values], dtype=torch.float64)
        return cls(
            state=torch.tensor([texts.state(c.state) for c in choices]), actions=actions, values=values
        )

    def __len__(self) -> int:
        return len(self.state)

    @property
    def is_there(self) -> Tensor:
        """[M, A] bool."""
        return self.actions != NOTHING


def _filled(rows: Iterable[Sequence[int]]) -> Tensor:
    """Ragged rows as one tensor with at least one column."""
    kept = list(rows)
    width = max(1, *(len(row) for row in kept)) if kept else 1
    return torch.tensor([[*row, *[NOTHING] * (width - len(row))] for row in kept])
