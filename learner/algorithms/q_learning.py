"""What ilql and dqn share: Q heads that actors play, and what keeps model and heads honest."""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from transformers import PreTrainedModel

from learner.algorithms.base import Term
from learner.algorithms.temporal_difference import TemporalDifference
from learner.batch import Batch
from learner.functional import kl
from learner.functional.q_loss import conservative_loss
from learner.heads import Head
from learner.model import Outputs
from learner.q_head import Choice, QHead
from rollout.q_function import QConfig, QFunction


class QLearning(TemporalDifference):
    """Q heads on the policy's hidden states; actors play log π + β (min_k Q̄_k − V)."""

    class Config(TemporalDifference.Config):
        q: QConfig = QConfig()
        trunk: Literal["shared", "detached"] = "shared"
        """"shared" sends the gradients of the heads into the model, which learns to see what matters;
        "detached" trains the heads alone, on what the model sees anyway."""
        cql_coef: float = Field(0.0, ge=0.0)
        """Pushes down the values of tokens that were not drawn: where data are logged, nothing else does.
        Online it holds on to what was drawn so far, good or not."""
        kl_coef: float = Field(0.0, ge=0.0)
        """Holds the model's own log-probs at the reference on the tokens of the batch, while the heads pull
        at its hidden states. Above 0 it needs a reference model and a pass of it."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._head: QHead | None = None

    @property
    def needs_reference(self) -> bool:
        return self.config.kl_coef > 0.0

    @property
    def guide_config(self) -> QConfig:
        return self.config.q

    def guide(self) -> QFunction | None:
        return None if self._head is None else self._head.target

    def choice(self, lm: PreTrainedModel) -> Choice | None:
        """Among which tokens the best next one is sought; None: nobody asks for it."""
        return None

    def heads(self, lm: PreTrainedModel) -> Mapping[str, Head]:
        self._head = QHead(
            self.config.q,
            lm,
            is_detached=self.config.trunk == "detached",
            has_logsumexp=self.config.cql_coef > 0.0,
            choice=self.choice(lm),
        )
        return {"q": self._head}

    def follow(self, share: float) -> None:
        if self._head is None:
            raise ValueError("there are no Q heads before `heads` was called")
        self._head.follow(share)

    def estimates(self, outputs: Outputs, batch: Batch) -> list[Tensor]:
        return [outputs[f"q_{k}"] for k in range(self.config.q.num_q)]

    def believed(self, outputs: Outputs) -> Tensor:
        """Q̄(s_t, a_t) = min_k of the target copies, for the tokens that were drawn. [B, T]"""
        return torch.stack([outputs[f"q_target_{k}"] for k in range(self.config.q.num_q)]).amin(dim=0)

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        terms = super().loss(outputs, batch)
        if self.config.cql_coef > 0.0:
            per_head = [
                conservative_loss(q_t, outputs[f"logsumexp_{k}"])
                for k, q_t in enumerate(self.estimates(outputs, batch))
            ]
            terms["loss/cql"] = self.term(torch.stack(per_head).sum(dim=0), batch, self.config.cql_coef)
        if self.config.kl_coef > 0.0:
            kl_t = kl.penalty(outputs["logprob"], batch["logprob_ref"], "k3")
            terms["loss/kl"] = self.term(kl_t, batch, self.config.kl_coef)
        return terms
