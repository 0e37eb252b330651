"""For tests of replays: recipes with algorithms that may learn from anybody's trajectories."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from reward_service.reward import Reward
from reward_service.types import Sample
from tests.system.fakes_parts import by_text
from tests.system.fakes_runs import settings, summary, updates

HERE = "tests.system.fakes_learning"
QUICK = {"components": [{"name": f"{HERE}:ByText"}]}
ONLINE = {"name": "prioritized", "num_fresh": 2}
OFFLINE = {"name": "prioritized", "num_fresh": 0}


def replaying(replay: Mapping[str, Any], **changes: object) -> list[str]:
    """Options of the command line for a run with this replay: ILQL offline, DQN where some is fresh."""
    heads = {"q": {"form": "full", "hidden_size": 0}, "target": {"share": 0.5}}
    algorithm = {"name": "dqn" if replay.get("num_fresh", 1) else "ilql", **heads}
    return settings(algorithm=algorithm, reward=QUICK, replay=replay, **changes)


def assert_same(run_dir: Path, other: Path) -> None:
    """Same numbers in every update, same weights: bit for bit, though nothing may have been stored."""
    assert updates(run_dir) == updates(other)
    assert len(updates(run_dir)) == 4
    assert summary(run_dir)["weights_digest"] == summary(other)["weights_digest"]


class ByText(Reward):
    """Every text has its own value; trusted, so that no child process has to be started for it."""

    name: ClassVar[str] = "by_text"

    def score_one(self, sample: Sample) -> float:
        return by_text(sample.completion)
