"""An algorithm for tests of replays: it may learn from anybody's trajectories, and needs no head."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from learner.algorithms.base import Algorithm, Term
from learner.batch import Batch
from learner.functional.aggregate import masked_sum
from learner.model import Outputs


class Imitation(Algorithm):
    """Raises the log-probs of what was scored well; how far a row's score is from ½ is its surprise."""

    name: ClassVar[str] = "imitation"
    is_off_policy: ClassVar[bool] = True

    def prepare(self, batch: Batch) -> Batch:
        return batch

    def loss(self, outputs: Outputs, batch: Batch) -> Mapping[str, Term]:
        weight = batch.score.float()
        if "importance" in batch:
            weight = weight * batch["importance"]
        return {
            "loss/policy": Term(-masked_sum(weight[:, None] * outputs["logprob"], batch.loss_mask), "tokens")
        }

    def report(self, outputs: Outputs, batch: Batch) -> Mapping[str, Tensor]:
        return {"td_error": (batch.score.float() - 0.5).abs()}
