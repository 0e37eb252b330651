"""GRPO."""

from torch import Tensor

from learner.algorithms.group_relative import GroupRelative
from learner.functional.advantages import grpo


class GRPO(GroupRelative):
    """Credit = (score − mean of the group) / standard deviation of the group (2402.03300).

    DAPO (2503.14476) is clip_high 0.28 with overlong set; GSPO (2507.18071) is ratio "sequence"; CISPO
    (2506.13585) is surrogate "cispo".
    """

    name = "grpo"

    def advantage(self, score: Tensor, group: Tensor) -> Tensor:
        return grpo(score, group)
