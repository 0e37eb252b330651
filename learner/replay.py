"""Where groups wait for the learner, and what the batch of an update is made of.

Fresh groups come in any order and leave in that of dispatch, once. What else is in a batch, older groups and
those of other runs, is the business of the plug-in: one file in learner/replays adds one.

    add(group) ... sweep -> is_ready -> draw(version) -> [the update] -> learn(draw, errors)

Called by the learner process; it knows neither tensors nor algorithms.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from antiphon.settings import Settings
from learner.logged import Logged
from rollout.trajectories import read_groups, write_groups
from rollout.types import Group

Key = tuple[int, int]
WAITING = "waiting.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """The batch of one update."""

    groups: tuple[Group, ...]
    """Fresh ones first. A group that was drawn twice is here twice."""
    num_fresh: int
    """So many of them were never trained on before."""
    importance: tuple[float, ...] | None = None
    """What each group weighs in losses of temporal differences, in (0, 1]; None: all the same."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What there is to tell of the replay, under `replay/`."""

    @property
    def fresh(self) -> tuple[Group, ...]:
        return self.groups[: self.num_fresh]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRule:
    """What a replay must know of the run around it."""

    groups_per_update: int
    """Groups of a batch, fresh or not."""
    seed: int


class Replay(ABC):
    """Groups in, batches out."""

    name: ClassVar[str]

    class Config(Settings):
        """No settings."""

        @property
        def stores(self) -> tuple[str, ...]:
            """Folders of runs whose trajectories are learned from too."""
            return ()

        def num_fresh_of(self, groups_per_update: int) -> int:
            """Fresh groups in the batch of an update."""
            return groups_per_update

    def __init__(self, config: Any, rule: ReplayRule, logged: Logged | None = None) -> None:
        """`logged` is what `config.stores` lead to, if they lead anywhere."""
        self.config = config
        self.num_fresh: int = config.num_fresh_of(rule.groups_per_update)
        self._rule = rule
        self._logged = logged
        self._waiting: dict[Key, Group] = {}

    @property
    def is_ready(self) -> bool:
        """Whether there are enough fresh groups for a batch."""
        return len(self._waiting) >= self.num_fresh

    def add(self, group: Group) -> None:
        """Keep a fresh group. How many there may be is decided at dispatch (cluster/admission.py).

        Raises:
            ValueError: it waits here already.
        """
        if group.key in self._waiting:
            raise ValueError(f"the replay already holds group {group.key}")
        self._waiting[group.key] = group

    def sweep(self, version: int, max_lag: int) -> list[Group]:
        """Drop and return the fresh groups whose oldest token is more than `max_lag` behind this version."""
        old = [key for key, g in sorted(self._waiting.items()) if version - g.oldest_version > max_lag]
        return [self._waiting.pop(key) for key in old]

    @abstractmethod
    def draw(self, version: int) -> Draw:
        """The batch of the update that starts from this version: `num_fresh` fresh groups, and others.

        It depends on what was added, the seed and the version alone.

        Raises:
            ValueError: there are too few fresh ones.
        """

    @abstractmethod
    def learn(self, draw: Draw, errors: Sequence[float] | None) -> None:
        """After the update: how much each group of the draw surprised; None where nobody can say."""

    def save(self, folder: Path) -> None:
        """Write everything that has state into a new folder."""
        folder.mkdir()
        write_file(self._waiting.values(), folder / WAITING)

    def load(self, folder: Path) -> None:
        """Take up what `save` wrote.

        Raises:
            UserError: logged data that is no longer as it was.
        """
        self._waiting = {group.key: group for group in read_groups(folder / WAITING)}

    def _take_fresh(self) -> list[Group]:
        """The fresh groups that stand first in the order of dispatch, which is not that of arrival."""
        if not self.is_ready:
            raise ValueError(f"replay holds {len(self._waiting)} fresh groups, {self.num_fresh} are due")
        return [self._waiting.pop(key) for key in sorted(self._waiting)[: self.num_fresh]]


def write_file(groups: Any, path: Path) -> None:
    """Groups as a Parquet file; the caller makes it visible."""
    with path.open("wb") as file:
        write_groups(groups, file)
