"""Implicit Q-learning for language models."""

from pydantic import Field
from torch import Tensor

from learner.algorithms.base import Term
from learner.algorithms.q_learning import QLearning
from learner.batch import Batch
from learner.functional.q_loss import advantage_weight, expectile_loss
from learner.functional.q_targets import n_step_target
from learner.model import Outputs


class ILQL(QLearning):
    """Credit = min_k Q̄_k − V, from logged data or a stream, without ever asking for an action that nobody
    took: y_t = r_t + γ V(s_{t+1}), V an upper expectile of Q̄ over what was drawn (2206.11871, 2110.06169).
    """

    name = "ilql"

    class Config(QLearning.Config):
        expectile: float = Field(0.7, gt=0.0, lt=1.0)
        """Where V lies among the Q-values of what was drawn: 0.5 their mean (the value of the policy that
        made the data), towards 1 the best of them (more hope, more noise)."""
        value_coef: float = Field(1.0, ge=0.0)
        cql_coef: float = Field(0.1, ge=0.0)
        """Pushes down the values of tokens that were not drawn: where data are logged, nothing else does.
        Online it holds on to what was drawn so far, good or not."""
        awac_coef: float = Field(1.0, ge=0.0)
        """Weight of imitation, which makes the model speak like the data: it says what is possible, the
        Q-values what of it is good. 0 where the model is to stay as it is."""
        awac_beta: float = Field(0.0, ge=0.0)
        """0 imitates all tokens alike; more imitates those the more whose advantage is larger."""
        awac_cap: float = Field(20.0, ge=1.0)
        """Bound on what one token may weigh in the imitation."""

    config: Config

    def targets(self, outputs: Outputs, batch: Batch) -> Tensor:
        value_final = self.value_after(outputs["value_final"].detach(), batch)
        return n_step_target(
            batch["reward"],
            outputs["value"].detach(),
            batch.action_mask,
            value_final,
            self.config.gamma,
            self.config.num_steps,
        )

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        settings, value_t = self.config, outputs["value"]
        q_t = self.believed(outputs)
        weight = advantage_weight(q_t, value_t.detach(), settings.awac_beta, settings.awac_cap)
        value_loss = expectile_loss(value_t, q_t, settings.expectile)
        return super().loss(outputs, batch) | {
            "loss/value": self.term(value_loss, batch, settings.value_coef),
            "loss/awac": self.term(-weight * outputs["logprob"], batch, settings.awac_coef),
            "policy/awac_weight": self.watch(weight, batch),
            "value/mean": self.watch(value_t, batch),
            "q/advantage": self.watch(q_t - value_t, batch),
        }
