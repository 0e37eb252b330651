"""Where prompts come from, and in which order they are given out.

    PromptSource --Example--> Encoder (rollout/encoding.py) --Prompt--> PromptStream --Turn--> dispatch

A source is a plug-in of `rollout/sources`; the stream belongs to the assembly. Neither knows tokens.
"""

import json
import random
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

from antiphon import plugins
from antiphon.errors import UserError
from antiphon.seeds import derive
from antiphon.settings import Settings
from rollout.types import Prompt, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a conversation, as chat templates take it."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One row of a data set, before any template or tokenizer.

    Example:
        >>> Example(id="sort/5821", content="sort 5821=", reference="1258")
    """

    id: str
    """Unique within its source and the same in every run."""
    content: str | tuple[Message, ...]
    """A text, or a conversation that the model continues."""
    reference: str | None = None
    """What a right answer looks like; None where there is none."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able; travels to the reward components."""

    @property
    def key(self) -> str:
        """Equal for two examples that ask the same."""
        if isinstance(self.content, str):
            return self.content.strip()
        return json.dumps([(m.role, m.content.strip()) for m in self.content])


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Examples to train on and examples to measure on; no content is in both, unless there is no other."""

    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    is_closed: bool = False
    """The prompts are all that can be asked, and a benchmark measures on those that it trains on."""

    def __post_init__(self) -> None:
        seen = set() if self.is_closed else {e.key for e in self.train}
        leaked = [e.id for e in self.held_out if e.key in seen]
        if leaked:
            raise ValueError(f"{len(leaked)} held-out examples are in train too, the first is {leaked[0]}")


class PromptSource(ABC):
    """A plug-in that yields examples. `examples` is called once, before anything else starts."""

    name: ClassVar[str]
    Config: ClassVar[type[Settings]]

    @abstractmethod
    def examples(self) -> Split:
        """All examples, the same in every run with the same settings.

        Raises:
            UserError: the data cannot be read, is empty, or lacks what the settings name.
        """


def read_source(section: Mapping[str, Any], where: str) -> Split:
    """The examples of the source that a section of a recipe names and configures.

    Raises:
        UserError: see antiphon.plugins.configure and PromptSource.examples.
    """
    source, config = plugins.configure(PromptSource, "rollout.sources", section, where)
    split: Split = source(config).examples()
    return split


def split_off(examples: Sequence[Example], num_held_out: int, seed: int, where: str) -> Split:
    """`examples` with `num_held_out` of them, chosen by `seed`, set apart.

    Contents that occur twice are kept once, so that none can be on both sides.

    Raises:
        UserError: nothing would be left to train on.
    """
    distinct = list({e.key: e for e in reversed(examples)}.values())[::-1]
    if len(distinct) <= num_held_out:
        raise UserError(
            f"{where} has {len(distinct)} different prompts, and num_held_out is {num_held_out}",
            remedy="give more data, or set num_held_out lower",
        )
    apart = set(random.Random(derive(seed, "held_out")).sample(range(len(distinct)), num_held_out))
    return Split(
        train=tuple(e for i, e in enumerate(distinct) if i not in apart),
        held_out=tuple(e for i, e in enumerate(distinct) if i in apart),
    )


def keep_apart(train: Sequence[Example], held_out: Sequence[Example], where: str) -> Split:
    """A split from two data sets; examples of `train` that ask what a held-out one asks are left out.

    Raises:
        UserError: nothing would be left to train on.
    """
    measured = {e.key for e in held_out}
    kept = tuple(e for e in train if e.key not in measured)
    if not kept:
        raise UserError(
            f"{where}: no prompt is left to train on, {len(train)} were read and all are held out",
            remedy="point the training and the held-out data to different rows",
        )
    if len(kept) < len(train):
        warnings.warn(
            f"{where}: {len(train) - len(kept)} prompts are held out too and are left out of training",
            stacklevel=2,
        )
    return Split(train=kept, held_out=tuple(held_out))


class PromptStream:
    """The order in which prompts are given out: an endless sequence of passes, each shuffled by the seed.

    It has no state but its arguments: whoever knows a position can go on from there.

    Example:
        >>> PromptStream(prompts, seed=0).turn(1000)
        Turn(epoch=3, index=100, prompt=...)
    """

    def __init__(self, prompts: Sequence[Prompt], seed: int) -> None:
        if not prompts:
            raise ValueError("a stream needs at least one prompt")
        self._prompts = tuple(prompts)
        self._seed = seed

    def __len__(self) -> int:
        """The number of prompts of one pass."""
        return len(self._prompts)

    def turn(self, position: int) -> Turn:
        """The `position`-th prompt of the run, counted from 0 over all passes."""
        if position < 0:
            raise ValueError(f"a position is 0 or more, got {position}")
        epoch, index = divmod(position, len(self._prompts))
        place = _permutation(derive(self._seed, "epoch", epoch), len(self._prompts))[index]
        return Turn(epoch=epoch, index=index, prompt=self._prompts[place])


@lru_cache(maxsize=4)
def _permutation(seed: int, num_items: int) -> tuple[int, ...]:
    """Cached because neighbouring positions share it, and two passes may be in flight at once."""
    return tuple(random.Random(seed).sample(range(num_items), num_items))
