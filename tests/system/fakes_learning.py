"""For tests of replays: an algorithm that may learn from anybody's trajectories, and recipes with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from learner.algorithms.base import Algorithm, Term
from learner.batch import Batch
from learner.functional.aggregate import masked_sum
from learner.model import Outputs
from reward_service.reward import Reward
from reward_service.types import Sample
from tests.system.fakes_parts import by_text
from tests.system.fakes_runs import settings, summary, updates

HERE = "tests.system.fakes_learning"
QUICK = {"components": [{"name": f"{HERE}:ByText"}]}
ONLINE = {"name": "prioritized", "num_fresh": 2}
OFFLINE = {"name": "prioritized", "num_fresh": 0}


def replaying(replay: Mapping[str, Any], **changes: object) -> list[str]:
    """Options of the command line for a run with this replay."""
    return settings(algorithm={"name": f"{HERE}:Imitation"}, reward=QUICK, replay=replay, **changes)


def assert_same(run_dir: Path, other: Path) -> None:
    """Same numbers in every update, same weights: bit for bit, though nothing may have been stored."""
    assert updates(run_dir) == updates(other)
    assert len(updates(run_dir)) == 4
    assert summary(run_dir)["weights_digest"] == summary(other)["weights_digest"]


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


class ByText(Reward):
    """Every text has its own value; trusted, so that no child process has to be started for it."""

    name: ClassVar[str] = "by_text"

    def score_one(self, sample: Sample) -> float:
        return by_text(sample.completion)
