"""What people are asked, as values: a completion to be rated or compared, and what a rater is shown next.

The store keeps them, the router sends them to the page, the component `human` makes them out of samples.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

Mode = Literal["rate", "compare"]
"""rate: a completion by itself, on a scale; compare: two completions of one prompt, which is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One completion about which people are asked one question."""

    mode: Mode
    question: str
    """What the rater is asked; another question about the same completion is another item."""
    prompt: str
    completion: str
    num_points: int = 5
    """How many buttons the scale has; the same judgement in 0..1 whatever it is."""
    num_wanted: int = 1
    """Judgements after which the item no longer waits."""

    @property
    def id(self) -> str:
        """The same for the same mode, question, prompt and completion, in every process: 32 hex digits."""
        return _digest(self.mode, self.question, self.prompt, self.completion)

    @property
    def context(self) -> str:
        """What completions share that can be compared with each other."""
        return _digest(self.mode, self.question, self.prompt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What one rater said of two items."""

    item: str
    other: str
    """Ids of items of one context."""
    value: float
    """The share of the win that goes to `item`: 1, 0, or 0.5 for a tie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A completion as the page shows it."""

    id: str
    completion: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What a rater is shown: one completion to be rated, two to be compared, or nothing."""

    kind: Literal["rating", "comparison", "nothing"]
    question: str = ""
    prompt: str = ""
    num_points: int = 0
    items: tuple[Shown, ...] = ()
    """One, two in the order on the page, or none."""
    num_waiting: int = 0
    """Items, of anybody, that still need a judgement."""
    num_mine: int = 0
    """Judgements that this rater has given."""


def storable(text: str) -> str:
    """The text without lone surrogates, which no UTF-8 can hold."""
    return text.encode("utf-8", "replace").decode()


def _digest(*parts: str) -> str:
    # As ASCII JSON: unambiguous where parts meet, and a lone surrogate is no obstacle.
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
