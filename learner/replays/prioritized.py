"""Draws more often what surprised more: prioritised experience replay (Schaul et al., 1511.05952).

The unit is a group. Its error is the mean over its trajectories of what the algorithm calls "td_error"
(learner/algorithms/base.py); what an algorithm without temporal differences learns from keeps its priority.
"""

import random
from collections.abc import Mapping

from pydantic import Field

from antiphon.schedules import Schedule, value_at
from learner.replay import Key
from learner.replays.chances import Chance, Chances, importance
from learner.replays.memory import Memory
from learner.replays.pool import Pick, Pool
from rollout.types import Group


class PrioritizedPool(Pool):
    """Draws in proportion to priority^alpha; with few groups, one may come twice."""

    def __init__(self, config: "Prioritized.Config") -> None:
        super().__init__()
        self._beta = config.beta
        self._chances: Chances[Key] = Chances(config.alpha, config.epsilon)

    def add(self, group: Group, version: int) -> None:
        super().add(group, version)
        self._chances.add(group.key)

    def remove(self, key: Key) -> None:
        super().remove(key)
        self._chances.remove(key)

    def draw(self, num: int, version: int, rng: random.Random) -> list[Pick]:
        beta = value_at(self._beta, version)
        return [
            Pick(key=key, weight=importance(probability, len(self), beta))
            for key, probability in self._chances.draw(num, rng)
        ]

    def learn(self, errors: Mapping[Key, float]) -> None:
        self._chances.learn(errors)

    def chance(self, key: Key) -> Chance:
        return self._chances.chance(key)

    def restore(
        self, groups: Mapping[Key, Group], entered: Mapping[Key, int], chances: Mapping[Key, Chance]
    ) -> None:
        super().restore(groups, entered, chances)
        self._chances.restore(chances)


class Prioritized(Memory):
    """Keeps groups, and draws those more often whose temporal differences were large."""

    name = "prioritized"
    is_weighing = True

    class Config(Memory.Config):
        """Those of every replay that keeps groups, and how much priorities matter."""

        alpha: float = Field(0.6, ge=0.0, le=1.0)
        """How much priorities matter: 0 draws all alike, 1 in proportion to the error."""
        beta: Schedule = 0.4
        """How much of the bias that this brings is taken back by weighing: 1 takes back all. Let it grow to 1
        towards the end of the run, where the bias matters; a number or a schedule."""
        epsilon: float = Field(1e-3, gt=0.0)
        """Added to every error, so that a group without error is drawn again some time."""

    config: Config

    def make_pool(self) -> PrioritizedPool:
        return PrioritizedPool(self.config)
