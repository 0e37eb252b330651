"""Deep Q-learning and SARSA over tokens."""

import torch
from pydantic import Field
from torch import Tensor
from transformers import PreTrainedModel

from learner.algorithms.q_learning import QLearning
from learner.batch import Batch
from learner.functional.q_targets import n_step_target
from learner.model import Outputs, logit_scale
from learner.q_head import Choice
from learner.targets import TargetConfig


class DQN(QLearning):
    """Credit = Q̄(s, a) of the best token against the others: y_t = Σ γ^i r_{t+i} + γ^n min_k Q̄_k(s_{t+n}, a*)
    with a* = argmax_a min_k Q_k, Double DQN with n-step targets (1509.06461, 1710.02298).

    There is no V head to learn: actors play log π + β Q̄, in which V would cancel.
    """

    name = "dqn"

    class Config(QLearning.Config):
        sarsa: bool = False
        """Ask for the value of the token that was drawn next instead of the best one: learns what the policy
        that acts is worth, and never asks for a token that nobody tried."""
        support: float = Field(0.001, ge=0.0, le=1.0)
        """The best next token is sought among those with at least this share of the probability of the
        model's likeliest: others were never tried, so that their values are noise. 0: among all."""
        num_steps: int = Field(3, ge=1)
        """Tokens whose rewards are added up before a value is asked. More carries a score at the end to the
        beginning in fewer updates, and believes more in how those tokens happened to be drawn."""
        kl_coef: float = Field(0.1, ge=0.0)
        """Holds the model's own log-probs at the reference on the tokens of the batch, while the heads pull
        at its hidden states. Above 0 it needs a reference model and a pass of it."""
        target: TargetConfig = TargetConfig(share=0.05)

    config: Config

    def choice(self, lm: PreTrainedModel) -> Choice | None:
        """SARSA has one only to go on after a truncated completion, where no token was drawn."""
        if self.config.sarsa and not self.config.bootstrap_truncated:
            return None
        share = self.config.support
        scale = logit_scale(lm.eval()) if share > 0.0 else 1.0
        return Choice(unembedding=lm.get_output_embeddings(), scale=scale, share=share)

    def targets(self, outputs: Outputs, batch: Batch) -> Tensor:
        value_t = self.believed(outputs) if self.config.sarsa else outputs["q_next"]
        value_final = outputs.get("q_next_final", torch.zeros_like(batch.score))
        return n_step_target(
            batch["reward"],
            value_t,
            batch.action_mask,
            self.value_after(value_final, batch),
            self.config.gamma,
            self.config.num_steps,
        )
