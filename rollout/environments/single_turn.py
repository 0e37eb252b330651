"""One prompt, one completion: what most tasks are."""

from rollout.environments.base import Environment, Step
from rollout.types import Prompt


class SingleTurn(Environment):
    """The dialogue is over after one completion."""

    name = "single_turn"

    @property
    def max_turns(self) -> int:
        return 1

    def max_tokens(self, max_new_tokens: int) -> int:
        return max_new_tokens

    def start(self, prompt: Prompt, seed: int) -> None:
        return None

    def step(self, state: None, action: str, is_cut: bool) -> Step:
        return Step(state=None, observation=None, is_done=not is_cut)
