"""REINFORCE++, without and with the mean of the group as a baseline."""

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor

from learner.algorithms.policy_gradient import PolicyGradient
from learner.batch import Batch
from learner.functional.advantages import centred_in_group, per_token, reinforce_pp
from learner.functional.aggregate import whiten


class ReinforcePP(PolicyGradient):
    """Credit = discounted return of each token, whitened over the batch (2501.03262)."""

    name = "reinforce_pp"

    class Config(PolicyGradient.Config):
        gamma: float = Field(1.0, ge=0.0, le=1.0)
        """Discount per token."""

    config: Config

    def credit(self, batch: Batch, reward_t: Tensor) -> Mapping[str, Tensor]:
        advantage = reinforce_pp(reward_t, batch.action_mask, self.config.gamma)
        return {"advantage": advantage.to(batch.logprob_behaviour.dtype)}


class ReinforcePPBaseline(PolicyGradient):
    """Credit = score − mean of the group, whitened over the batch (2501.03262)."""

    name = "reinforce_pp_baseline"
    is_group_relative = True

    def credit(self, batch: Batch, reward_t: Tensor) -> Mapping[str, Tensor]:
        centred = centred_in_group(reward_t.sum(dim=1), batch.group)
        advantage = whiten(per_token(centred, batch.action_mask), batch.action_mask)
        return {"advantage": advantage.to(batch.logprob_behaviour.dtype)}
