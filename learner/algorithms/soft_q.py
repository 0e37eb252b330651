"""Soft Q-learning in which the language model itself is the Q function."""

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor
from transformers import PreTrainedModel

from learner.algorithms.base import Term
from learner.algorithms.temporal_difference import TemporalDifference
from learner.batch import Batch
from learner.functional.aggregate import masked_sum
from learner.functional.q_targets import soft_n_step_target
from learner.heads import Head, ValueHead
from learner.model import Outputs
from learner.target_value_head import TargetValueHead
from learner.targets import TargetConfig


class SoftQ(TemporalDifference):
    """Credit = the soft Q-value τ log(π / π_ref) + V against r_t + γ V̄(s_{t+1}) along n tokens (1702.08892).

    At its fixed point π ∝ π_ref exp(Q / τ): the best policy for the score minus τ · KL(π ‖ π_ref). Nothing
    but the model travels, and every engine plays it as it is.
    """

    name = "soft_q"

    class Config(TemporalDifference.Config):
        temperature: float = Field(0.1, gt=0.0)
        """τ: what a nat of distance from the reference costs, in units of the score. Lower trusts the score
        more; log-ratios go up to the spread of returns divided by it."""
        gamma: float = Field(1.0, ge=0.0, le=1.0)
        """Discount per token; below 1 an early end is worth more than a late one."""
        num_steps: int = Field(16, ge=1)
        """Tokens until a value is asked. Several need no correction for who drew them, so that more only
        carries a score to the beginning faster, at more variance."""
        target: TargetConfig = TargetConfig(share=0.05)
        value_head: ValueHead.Config = ValueHead.Config(trunk="detached")
        """Detached by default: here the policy learns through its own log-probs, which a V head that pulls at
        the same hidden states disturbs."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._head: TargetValueHead | None = None

    @property
    def needs_reference(self) -> bool:
        return True

    def heads(self, lm: PreTrainedModel) -> Mapping[str, Head]:
        self._head = TargetValueHead(self.config.value_head, lm)
        return {"value": self._head}

    def prepare(self, batch: Batch) -> Batch:
        """As its base does; and lets V start at the mean return of the first batch.

        From a V of 0 on, all that was drawn looks good at first where scores are high, and the policy
        settles on it before V has caught up.
        """
        prepared = super().prepare(batch)
        if self._num_updates == 0 and self._head is not None:
            mean = masked_sum(prepared["return_"], batch.loss_mask) / batch.loss_mask.sum()
            self._head.start_at(float(mean) / self.config.temperature)
        return prepared

    def follow(self, share: float) -> None:
        if self._head is None:
            raise ValueError("there is no V head before `heads` was called")
        self._head.follow(share)

    def estimates(self, outputs: Outputs, batch: Batch) -> list[Tensor]:
        return [self._in_scores(outputs["value"] + _log_ratio(outputs, batch))]

    def targets(self, outputs: Outputs, batch: Batch) -> Tensor:
        return soft_n_step_target(
            batch["reward"],
            _log_ratio(outputs, batch).detach(),
            self._in_scores(outputs["value_target"]),
            batch.action_mask,
            self.value_after(self._in_scores(outputs["value_target_final"]), batch),
            self.config.gamma,
            self.config.temperature,
            self.config.num_steps,
        )

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        return super().loss(outputs, batch) | {
            "policy/log_ratio": self.watch(_log_ratio(outputs, batch), batch),
            "value/mean": self.watch(self._in_scores(outputs["value"]), batch),
        }

    def _in_scores(self, nats: Tensor) -> Tensor:
        """τ · x. The V head counts in nats, as log-ratios do: their gradients then are of one size, and
        neither drowns the other."""
        return self.config.temperature * nats


def _log_ratio(outputs: Outputs, batch: Batch) -> Tensor:
    """log π − log π_ref of the tokens that were drawn. [B, T]"""
    # Not clamped as a ratio would be: at a small τ values far apart need log-ratios beyond any bound.
    return outputs["logprob"] - batch["logprob_ref"]
