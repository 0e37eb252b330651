"""Dr.GRPO."""

from pydantic import Field
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
        horizon: int | None = Field(256, ge=1)
        """The constant; set it to rollout.sampling.max_new_tokens."""

    def advantage(self, score: Tensor, group: Tensor) -> Tensor:
        return centred_in_group(score, group)
