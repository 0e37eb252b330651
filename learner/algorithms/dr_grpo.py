"""Dr.GRPO."""

from torch import Tensor

from learner.algorithms.group_relative import GroupRelative
from learner.functional.advantages import centred_in_group
from learner.functional.aggregate import Aggregation


class DrGRPO(GroupRelative):
    """Credit = score − mean of the group, summed over tokens and divided by a constant (2503.20783).

    Neither the spread of a group nor the length of a completion weighs its gradient.
    """

    name = "dr_grpo"

    class Config(GroupRelative.Config):
        aggregation: Aggregation = "constant"

    def advantage(self, score: Tensor, group: Tensor) -> Tensor:
        return centred_in_group(score, group)
