"""What the replays share that keep groups: the run's own, and those of earlier runs beside them.

    waiting --> own pool --\
                            +--> the rest of the batch, behind the fresh groups
    stores ---> window -----/

Own groups leave by age and by size, oldest first. A member says how a pool draws.
"""

import json
import math
import random
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from antiphon.seeds import derive
from learner.logged import Logged
from learner.replay import Draw, Replay, ReplayRule, write_file
from learner.replays.files import load_entries, save_entries
from learner.replays.pool import Pick, Pool
from learner.replays.window import Window
from rollout.trajectories import read_groups
from rollout.types import Group

OWN, OWN_ENTRIES, STATE = "own.parquet", "own_entries.parquet", "state.json"


class Memory(Replay):
    """Fresh groups are trained on once for certain, and drawn again afterwards as long as they are kept."""

    is_weighing: ClassVar[bool] = False
    """Whether picks weigh differently."""

    class Config(Replay.Config):
        num_fresh: int | None = Field(None, ge=0)
        """Fresh groups in the batch of an update; the rest of rollout.groups_per_update is drawn from the
        replay. null: all of the batch; 0: nothing is rolled out but for the evaluation (offline)."""
        capacity_tokens: int = Field(1_000_000, ge=1)
        """Tokens that are kept, prompts counted in every trajectory; the oldest groups leave first. Python
        needs about 90 bytes for each."""
        max_age: int | None = Field(None, ge=1)
        """Updates after which a group of the run is forgotten; null: only for lack of room."""
        trajectories: tuple[str, ...] = ()
        """Run directories (or folders of trajectories) to learn from too; on the command line also as one
        text with commas. `data.trajectories` is another name for it."""
        logged_share: float = Field(0.5, ge=0.0, le=1.0)
        """Share of what is drawn from the replay, and of its room, that is for those trajectories; all where
        nothing is fresh."""

        @field_validator("trajectories", mode="before")
        @classmethod
        def _split(cls, value: Any) -> Any:
            if isinstance(value, str):
                return tuple(part.strip() for part in value.split(",") if part.strip())
            return tuple(value) if isinstance(value, list) else value

        @property
        def stores(self) -> tuple[str, ...]:
            return self.trajectories

        def num_fresh_of(self, groups_per_update: int) -> int:
            return groups_per_update if self.num_fresh is None else self.num_fresh

    config: Config

    def __init__(self, config: Config, rule: ReplayRule, logged: Logged | None = None) -> None:
        super().__init__(config, rule, logged)
        is_mixed = logged is not None and self.num_fresh > 0
        self._logged_share = config.logged_share if is_mixed else float(logged is not None)
        self._own = self.make_pool()
        self._num_evicted = 0
        self._window: Window | None = None
        if logged is not None:
            room = round(self._logged_share * config.capacity_tokens)
            self._window = Window(logged, self.make_pool(), seed=rule.seed, capacity_tokens=room)

    @abstractmethod
    def make_pool(self) -> Pool:
        """An empty pool that draws as this replay does."""

    def draw(self, version: int) -> Draw:
        fresh = self._take_fresh()
        self._forget(version)
        own, old = self._pick(self._rule.groups_per_update - len(fresh), version)
        ages = [0] * len(fresh) + [version - self._own[pick.key].entered for pick in own]
        groups = [*fresh, *_groups(self._own, own)]
        if self._window is not None:
            groups += _groups(self._window.pool, old)
            self._window.move(len(old))
        for group in fresh:
            self._own.add(group, version)
        self._shrink()
        weights = _weights(len(fresh), [*own, *old]) if self.is_weighing else None
        metrics = {
            "replay/batch_groups": float(len(groups)),
            "replay/fresh_share": len(fresh) / max(len(groups), 1),
            "replay/logged_share": len(old) / max(len(groups), 1),
            **({"replay/age_mean": sum(ages) / len(ages)} if ages else {}),
            **({"replay/importance_min": min(weights, default=1.0)} if weights is not None else {}),
            **self._sizes(),
        }
        return Draw(groups=tuple(groups), num_fresh=len(fresh), importance=weights, metrics=metrics)

    def learn(self, draw: Draw, errors: Sequence[float] | None) -> None:
        if errors is None:
            return
        by_key = {group.key: error for group, error in zip(draw.groups, errors, strict=True)}
        for pool in self._pools:
            pool.learn(by_key)

    def save(self, folder: Path) -> None:
        super().save(folder)
        write_file((self._own[key].group for key in self._own), folder / OWN)
        save_entries(self._own, folder / OWN_ENTRIES)
        window = None if self._window is None else self._window.save(folder)
        (folder / STATE).write_text(json.dumps({"num_evicted": self._num_evicted, "window": window}))

    def load(self, folder: Path) -> None:
        super().load(folder)
        state = json.loads((folder / STATE).read_text())
        self._num_evicted = state["num_evicted"]
        load_entries(self._own, folder / OWN_ENTRIES, {g.key: g for g in read_groups(folder / OWN)})
        if self._window is not None and state["window"] is not None:
            self._window.load(folder, state["window"])

    @property
    def _pools(self) -> list[Pool]:
        return [self._own] if self._window is None else [self._own, self._window.pool]

    def _pick(self, num: int, version: int) -> tuple[list[Pick], list[Pick]]:
        """Of the own groups and of the logged ones, `num` in all as far as there are so many."""
        rng = random.Random(derive(self._rule.seed, "replay", version))
        # Over many updates the share is met, also where a batch has room for half a logged group.
        share = self._logged_share * num
        num_old = math.floor((version + 1) * share) - math.floor(version * share)
        own = self._own.draw(min(num - num_old, len(self._own)), version, rng)
        old = self._window.draw(num - len(own), version, rng) if self._window is not None else []
        return own, old

    def _forget(self, version: int) -> None:
        """Own groups that are too old."""
        limit = self.config.max_age
        while limit is not None and len(self._own) and version - self._own[self._own.oldest].entered > limit:
            self._evict()

    def _shrink(self) -> None:
        """To the room that there is for own groups."""
        room = round((1.0 - self._logged_share) * self.config.capacity_tokens)
        while self._own.num_tokens > room:
            self._evict()

    def _evict(self) -> None:
        self._own.remove(self._own.oldest)
        self._num_evicted += 1

    def _sizes(self) -> dict[str, float]:
        return {
            "replay/groups": float(sum(len(pool) for pool in self._pools)),
            "replay/tokens": float(sum(pool.num_tokens for pool in self._pools)),
            "replay/evicted_total": float(self._num_evicted),
            **({} if self._window is None else {"replay/logged_passes": float(self._window.num_passes)}),
        }


def _groups(pool: Pool, picks: Sequence[Pick]) -> list[Group]:
    return [pool[pick.key].group for pick in picks]


def _weights(num_fresh: int, picks: Sequence[Pick]) -> tuple[float, ...]:
    """As shares of the largest, so that weighing never makes a step longer; what is fresh weighs 1."""
    largest = max((pick.weight for pick in picks), default=1.0)
    return (*[1.0] * num_fresh, *(pick.weight / largest for pick in picks))
