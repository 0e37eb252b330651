"""What the policy-gradient family shares: the surrogate, its corrections, entropy and KL.

A member adds one method, `credit`; see grpo.py for the shortest.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from antiphon.settings import Settings
from learner.algorithms.base import Algorithm, Term
from learner.batch import Batch
from learner.functional import kl
from learner.functional.advantages import place_score
from learner.functional.aggregate import Aggregation, aggregate, masked_mean, masked_sum
from learner.functional.policy_loss import (
    cispo,
    clipped_surrogate,
    correction_weight,
    log_ratio,
    sequence_log_ratio,
)
from learner.functional.shaping import overlong_penalty
from learner.kl_control import KLConfig, KLController
from learner.model import Outputs


class OverlongConfig(Settings):
    """A penalty that grows over the last tokens before the limit (DAPO)."""

    max_tokens: int = Field(ge=1)
    """Completions of this many tokens get the whole penalty; set it to rollout.sampling.max_new_tokens."""
    buffer: int = Field(ge=1)
    """The penalty begins this many tokens before."""
    penalty: float = Field(1.0, ge=0.0)

    @model_validator(mode="after")
    def _buffer_fits(self) -> "OverlongConfig":
        if self.buffer > self.max_tokens:
            raise ValueError(f"buffer {self.buffer} is larger than max_tokens {self.max_tokens}")
        return self


class PolicyGradient(Algorithm):
    """Raises the probability of actions with positive advantage, within a trust region around π_prox."""

    class Config(Settings):
        clip_low: float = Field(0.2, ge=0.0, le=1.0)
        """The ratio loses its gradient below 1 − clip_low (for actions that were worse than expected)."""
        clip_high: float = Field(0.2, ge=0.0)
        """… and above 1 + clip_high (for better ones); above clip_low it keeps exploration up (DAPO: 0.28)"""
        dual_clip: float | None = Field(None, gt=1.0)
        """Bound on the loss of a bad action at this multiple of its advantage; 3 where ratios run away."""
        surrogate: Literal["clip", "cispo"] = "clip"
        """"cispo" clips the weight instead of the objective, so that every token keeps a gradient."""
        ratio: Literal["token", "sequence"] = "token"
        """"sequence" (GSPO) takes one ratio per completion, the geometric mean; its clip ranges are far
        smaller (3e-4), and it aggregates by sequence_mean_token_mean."""
        correction_cap: float | None = Field(2.0, gt=0.0)
        """Bound on π_prox / π_behaviour, which corrects for lag and numerics; None leaves it out."""
        aggregation: Aggregation = "token_mean"
        """How losses per token become one number."""
        horizon: int | None = Field(None, ge=1)
        """The constant of aggregation "constant"; set it to rollout.sampling.max_new_tokens."""
        entropy_coef: float = Field(0.0, ge=0.0)
        """Reward for the entropy of the policy, per token; keeps it exploring."""
        mask_truncated: bool = False
        """Leave completions that ended by length out of the loss (they still count in their group's mean)."""
        overlong: OverlongConfig | None = None
        """Soft punishment of long completions; the raw score is untouched."""
        kl: KLConfig = KLConfig()

        @model_validator(mode="after")
        def _fits_together(self) -> "PolicyGradient.Config":
            if self.aggregation == "constant" and self.horizon is None:
                raise ValueError(
                    "aggregation 'constant' needs a horizon: set it to rollout.sampling.max_new_tokens"
                )
            if self.ratio == "sequence" and self.aggregation != "sequence_mean_token_mean":
                raise ValueError("ratio 'sequence' needs aggregation 'sequence_mean_token_mean'")
            if self.surrogate == "cispo" and self.dual_clip is not None:
                raise ValueError("surrogate 'cispo' has no dual clip: remove dual_clip")
            return self

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._kl = KLController(config.kl)

    @abstractmethod
    def credit(self, batch: Batch, reward_t: Tensor) -> Mapping[str, Tensor]:
        """At least the stream "advantage" [B, T] from rewards [B, T], which are 0 off action tokens."""

    @property
    def needs_reference(self) -> bool:
        return self.config.kl.place != "none"

    @property
    def needs_proximal(self) -> bool:
        return self.config.kl.in_reward

    def prepare(self, batch: Batch) -> Batch:
        if self.config.mask_truncated:
            batch = batch.with_(loss_mask=batch.action_mask & ~batch.is_truncated[:, None])
        return batch.with_(**self.credit(batch, self._reward(batch)))

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        loss_t, ratio, is_clipped = self._surrogate(outputs["logprob"], batch)
        if self.config.correction_cap is not None:
            cap = self.config.correction_cap
            loss_t = loss_t * correction_weight(batch["logprob_prox"], batch.logprob_behaviour, cap)
        mask = batch.loss_mask
        moved = ratio.detach()
        terms = {
            "loss/policy": self._aggregate(loss_t, mask),
            "policy/entropy": Term(
                masked_sum(outputs["entropy"], mask), "tokens", weight=-self.config.entropy_coef
            ),
            "policy/clip_fraction": Term(is_clipped.logical_and(mask).sum(), "tokens", weight=0.0),
            "policy/ratio": Term(masked_sum(moved, mask), "tokens", weight=0.0),
            "policy/approx_kl": Term(masked_sum(moved - 1.0 - moved.log(), mask), "tokens", weight=0.0),
        }
        if self.config.kl.in_loss:
            kl_t = kl.penalty(outputs["logprob"], batch["logprob_ref"], self.config.kl.estimator)
            terms["loss/kl"] = self._aggregate(kl_t, mask, weight=self._kl.beta)
        return terms

    def after_update(self, batch: Batch) -> dict[str, float]:
        if not self.needs_reference:
            return {}
        kl_t = kl.k1(batch["logprob_prox"], batch["logprob_ref"])
        mean = float(masked_mean(kl_t, batch.action_mask))
        metrics = {"policy/kl": mean, "policy/kl_beta": self._kl.beta}
        self._kl.update(mean, batch.num_rows)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        return {"kl": self._kl.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._kl.load_state_dict(state["kl"])

    def _reward(self, batch: Batch) -> Tensor:
        """The shaped score at the last action, minus β·k1 at every action. [B, T] fp64"""
        score, mask = batch.score, batch.action_mask
        if (overlong := self.config.overlong) is not None:
            penalty = overlong_penalty(mask.sum(dim=1), overlong.max_tokens, overlong.buffer)
            score = score + overlong.penalty * penalty
        reward_t = place_score(score, mask)
        if self.config.kl.in_reward:
            k1_t = kl.k1(batch["logprob_prox"], batch["logprob_ref"])
            reward_t = reward_t - torch.where(mask, self._kl.beta * k1_t, 0.0)
        return reward_t

    def _surrogate(self, logprob: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Loss per token, the ratio, and where the clip decided. Each [B, T]"""
        settings, advantage, prox = self.config, batch["advantage"], batch["logprob_prox"]
        if settings.ratio == "sequence":
            ratio = sequence_log_ratio(logprob, prox, batch.loss_mask).exp()
        else:
            ratio = log_ratio(logprob, prox).exp()
        low, high = settings.clip_low, settings.clip_high
        if settings.surrogate == "cispo":
            loss_t, is_clipped = cispo(logprob, ratio, advantage, low, high)
        else:
            loss_t, is_clipped = clipped_surrogate(ratio, advantage, low, high, settings.dual_clip)
        return loss_t, ratio, is_clipped

    def _aggregate(self, loss_t: Tensor, mask: Tensor, weight: float = 1.0) -> Term:
        total, per = aggregate(loss_t, mask, self.config.aggregation, self.config.horizon)
        return Term(total, per, weight)
