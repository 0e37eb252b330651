"""A small run whose actors play a Q function, and a reward for which no process has to start."""

from pathlib import Path
from typing import Any, ClassVar

from reward_service.reward import Reward
from reward_service.types import Sample
from tests.system.fakes_parts import by_text
from tests.system.fakes_runs import small_recipe


class ByText(Reward):
    """Every text has its own value."""

    name: ClassVar[str] = "by_text"

    def score_one(self, sample: Sample) -> float:
        return by_text(sample.completion)


def guided_recipe(model: Path) -> dict[str, Any]:
    """ilql with heads that learn fast, so that what they say soon decides what is drawn."""
    recipe = small_recipe(model)
    q = {"form": "full", "hidden_size": 16}
    recipe["algorithm"] = {"name": "ilql", "q": q, "target": {"share": 1.0}}
    recipe["reward"] = {"components": [{"name": f"{__name__}:ByText"}]}
    recipe["learner"] |= {"num_minibatches": 1}
    recipe["learner"]["optimizer"]["head_lr"] = 0.1
    recipe["rollout"]["sampling"] |= {"top_k": 20, "temperature": 0.9}
    recipe["rollout"]["exploration"] = {
        "epsilon": {"kind": "two_phase", "start": 0.3, "end": 0.0, "num_updates": 2},
        "beta": {"start": 0.0, "end": 8.0, "num_updates": 4},
        "target_entropy": {"target": 1.0, "rate": 0.5},
    }
    return recipe
