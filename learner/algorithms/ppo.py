"""PPO with a critic."""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor
from transformers import PreTrainedModel

from learner.algorithms.base import Term
from learner.algorithms.policy_gradient import PolicyGradient
from learner.batch import Batch
from learner.functional.advantages import gae
from learner.functional.aggregate import masked_sum, whiten
from learner.functional.value_loss import clipped_value_loss, explained_variance
from learner.heads import Head, ValueHead
from learner.model import Outputs


class PPO(PolicyGradient):
    """Credit = generalised advantage of each token over a learned value (1707.06347, 1506.02438)."""

    name = "ppo"

    class Config(PolicyGradient.Config):
        gamma: float = Field(1.0, ge=0.0, le=1.0)
        """Discount per token; 1 for scores that come at the end."""
        lambda_: float = Field(0.95, ge=0.0, le=1.0)
        """1 trusts the score alone, 0 the critic alone."""
        whiten: bool = True
        """Advantages get mean 0 and variance 1 over the batch."""
        bootstrap_truncated: bool = False
        """Whether a completion that ended by length goes on with the critic's V instead of 0. A score is
        given to the text as it was cut, so that as a rule nothing follows it."""
        value_coef: float = Field(0.5, ge=0.0)
        value_clip: float | None = Field(0.2, gt=0.0)
        """The critic may move this far from where the update began without loss of gradient; None: freely."""
        value_head: ValueHead.Config = ValueHead.Config()

    config: Config

    @property
    def needs_values(self) -> bool:
        return True

    def heads(self, lm: PreTrainedModel) -> Mapping[str, Head]:
        return {"value": ValueHead(self.config.value_head, lm)}

    def credit(self, batch: Batch, reward_t: Tensor) -> Mapping[str, Tensor]:
        value_t = batch["value"].to(reward_t.dtype)
        goes_on = batch.is_truncated & self.config.bootstrap_truncated
        value_final = torch.where(goes_on, batch["value_final"].to(reward_t.dtype), 0.0)
        advantage, return_ = gae(
            reward_t, value_t, batch.action_mask, value_final, self.config.gamma, self.config.lambda_
        )
        if self.config.whiten:
            advantage = whiten(advantage, batch.loss_mask)
        dtype = batch["value"].dtype
        return {"advantage": advantage.to(dtype), "return_": return_.to(dtype)}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        mask = batch.loss_mask
        loss_t, is_clipped = clipped_value_loss(
            outputs["value"], batch["value"], batch["return_"], self.config.value_clip
        )
        return super().loss(outputs, batch) | {
            "loss/value": Term(masked_sum(loss_t, mask), "tokens", weight=self.config.value_coef),
            "value/clip_fraction": Term(is_clipped.logical_and(mask).sum(), "tokens", weight=0.0),
        }

    def after_update(self, batch: Batch) -> dict[str, float]:
        explained = explained_variance(batch["value"], batch["return_"], batch.action_mask)
        return super().after_update(batch) | {"value/explained_variance": float(explained)}
