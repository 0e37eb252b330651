"""What algorithms share whose credit compares the trajectories of one prompt."""

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor

from learner.algorithms.policy_gradient import PolicyGradient
from learner.batch import Batch
from learner.functional.advantages import per_token


class GroupRelative(PolicyGradient):
    """The same advantage for all tokens of a trajectory; 0 in groups whose scores are all equal."""

    is_group_relative = True

    @abstractmethod
    def advantage(self, score: Tensor, group: Tensor) -> Tensor:
        """From scores and group numbers. [B], [B] -> [B]"""

    def credit(self, batch: Batch, reward_t: Tensor) -> Mapping[str, Tensor]:
        advantage = self.advantage(reward_t.sum(dim=1), batch.group)
        return {"advantage": per_token(advantage, batch.action_mask).to(batch.logprob_behaviour.dtype)}
