"""What the Q-learning family shares: rewards, the squared temporal difference, target copies, its measures.

A member says what it thinks an action is worth, and what the action should have been worth. Both are read off
the outputs of the very pass that takes the gradient: a step looks at targets of the weights that it changes,
and no pass is spent on them. Nothing asks who drew the tokens.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from antiphon.settings import Settings
from learner.algorithms.base import Algorithm, Term
from learner.batch import Batch
from learner.functional.advantages import discounted_return, place_score
from learner.functional.aggregate import masked_sum
from learner.functional.q_loss import td_loss
from learner.model import Outputs
from learner.targets import TargetConfig


class TemporalDifference(Algorithm):
    """Learns what each token is worth from what the next state is worth."""

    is_off_policy = True

    class Config(Settings):
        gamma: float = Field(0.99, ge=0.0, le=1.0)
        """Discount per token; below 1 an early end is worth more than a late one."""
        num_steps: int = Field(1, ge=1)
        """Tokens whose rewards are added up before a value is asked. More carries a score at the end to the
        beginning in fewer updates, and believes more in how those tokens happened to be drawn."""
        bootstrap_truncated: bool = False
        """Whether a completion that ended by length goes on with the value of its last state instead of 0. A
        score is given to the text as it was cut, so that as a rule nothing follows it."""
        reward_shift: float = Field(0.0, allow_inf_nan=False)
        """Subtracted from every score; the mean of logged scores, say."""
        reward_scale: float = Field(1.0, gt=0.0)
        """Multiplies the shifted score, so that values are of the order of 1."""
        huber: float | None = Field(None, gt=0.0)
        """Temporal differences above this enter linearly, so that single outliers pull less; None: never."""
        target: TargetConfig = TargetConfig()

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._num_updates = 0

    @abstractmethod
    def estimates(self, outputs: Outputs, batch: Batch) -> Sequence[Tensor]:
        """What the tokens that were drawn are worth, in the eyes of each Q function. [B, T] each"""

    @abstractmethod
    def targets(self, outputs: Outputs, batch: Batch) -> Tensor:
        """What they should have been worth; no gradient. [B, T]"""

    @abstractmethod
    def follow(self, share: float) -> None:
        """Move the target copies this share of the way."""

    def prepare(self, batch: Batch) -> Batch:
        settings = self.config
        score = (batch.score - settings.reward_shift) * settings.reward_scale
        reward_t = place_score(score, batch.action_mask)
        return batch.with_(
            reward=reward_t, return_=discounted_return(reward_t, batch.action_mask, settings.gamma)
        )

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        estimates, target_t = self._estimates_and_target(outputs, batch)
        losses = [td_loss(q_t, target_t, self.config.huber) for q_t in estimates]
        least = torch.stack(list(estimates)).amin(dim=0)
        return {
            "loss/q": self.term(torch.stack(losses).sum(dim=0), batch),
            "q/td_error": self.watch(_mean_error(estimates, target_t), batch),
            "q/mean": self.watch(least, batch),
            "q/overestimation": self.watch(least - batch["return_"], batch),
            "policy/entropy": self.watch(outputs["entropy"], batch),
        }

    def report(self, outputs: Outputs, batch: Batch) -> Mapping[str, Tensor]:
        estimates, target_t = self._estimates_and_target(outputs, batch)
        mask = batch.loss_mask
        error_t = torch.where(mask, _mean_error(estimates, target_t), 0.0)
        least = torch.stack(list(estimates)).amin(dim=0)
        return {
            "td_error": error_t.sum(dim=1) / mask.sum(dim=1).clamp(min=1),
            "q_max": least.masked_fill(~mask, -torch.inf).amax(dim=1),
        }

    def after_update(self, batch: Batch) -> dict[str, float]:
        self._num_updates += 1
        if self.config.target.is_due(self._num_updates):
            self.follow(self.config.target.share)
        return {"q/max": float(batch["q_max"].max())}

    def state_dict(self) -> dict[str, Any]:
        return {"num_updates": self._num_updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._num_updates = int(state["num_updates"])

    def term(self, loss_t: Tensor, batch: Batch, weight: float = 1.0) -> Term:
        """Part of the loss: the sum over tokens, each as often as the replay says that its row counts."""
        if "importance" in batch:
            loss_t = loss_t * batch["importance"][:, None]
        return Term(masked_sum(loss_t, batch.loss_mask), "tokens", weight)

    def watch(self, x_t: Tensor, batch: Batch) -> Term:
        """A mean over tokens that is only reported."""
        return Term(masked_sum(x_t.detach(), batch.loss_mask), "tokens", weight=0.0)

    def value_after(self, value_final: Tensor, batch: Batch) -> Tensor:
        """[B] what follows the last action: nothing, unless the row was cut and is to go on."""
        goes_on = batch.is_truncated & self.config.bootstrap_truncated
        return torch.where(goes_on, value_final, 0.0)

    def _estimates_and_target(self, outputs: Outputs, batch: Batch) -> tuple[Sequence[Tensor], Tensor]:
        """Scores are fp64, and so are targets made of them; losses are computed in the dtype of the model."""
        estimates = self.estimates(outputs, batch)
        return estimates, self.targets(outputs, batch).detach().to(estimates[0].dtype)


def _mean_error(estimates: Sequence[Tensor], target_t: Tensor) -> Tensor:
    """|Q_k − y|, the mean over k. [B, T]"""
    return torch.stack([(q_t.detach() - target_t).abs() for q_t in estimates]).mean(dim=0)
