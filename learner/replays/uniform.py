"""Draws all groups alike: the plain experience replay of Lin (1992) and Mnih et al. (1312.5602)."""

from learner.replays.memory import Memory
from learner.replays.pool import Pool


class Uniform(Memory):
    """Keeps groups, and draws without looking at them."""

    name = "uniform"

    class Config(Memory.Config):
        """Those of every replay that keeps groups."""

    def make_pool(self) -> Pool:
        return Pool()
