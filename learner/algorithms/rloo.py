"""RLOO."""

from torch import Tensor

from learner.algorithms.group_relative import GroupRelative
from learner.functional.advantages import rloo


class RLOO(GroupRelative):
    """Credit = score − mean of the other completions of the prompt (2402.14740)."""

    name = "rloo"

    def advantage(self, score: Tensor, group: Tensor) -> Tensor:
        return rloo(score, group)
