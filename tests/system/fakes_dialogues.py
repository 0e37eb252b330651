"""An environment that recipes of these tests name by import path, and a recipe that plays it."""

from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from antiphon.settings import Settings
from rollout.environments.base import Environment, Step
from rollout.types import Prompt
from tests.system.fakes_runs import small_recipe


@dataclass(frozen=True)
class Talk:
    number: int
    num_rounds: int
    heard: tuple[str, ...] = ()


class Chatter(Environment):
    """Answers with a number of its own and the length of what was said, two or three times."""

    name = "chatter"

    class Config(Settings):
        max_tokens: int = 24

    config: Config

    @property
    def max_turns(self) -> int:
        return 3

    def max_tokens(self, max_new_tokens: int) -> int:
        return self.config.max_tokens

    def start(self, prompt: Prompt, seed: int) -> Talk:
        draw = Random(seed)
        return Talk(number=draw.randrange(10), num_rounds=draw.randint(1, 3))

    def step(self, state: Talk, action: str, is_cut: bool) -> Step:
        after = replace(state, heard=(*state.heard, action))
        if len(after.heard) == state.num_rounds:
            return Step(state=after, observation=None, is_done=True)
        return Step(state=after, observation=f"<{state.number}{len(action)}>")


def talking(model: Path) -> dict[str, Any]:
    """The small recipe with dialogues."""
    recipe = small_recipe(model)
    recipe["rollout"]["environment"] = {"name": f"{__name__}:Chatter"}
    return recipe
