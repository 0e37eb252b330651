"""Environments and engines that say what they were asked, for tests of dialogues."""

from collections.abc import Sequence
from random import Random

from antiphon.settings import Settings
from rollout.environments.base import Environment, Step
from rollout.types import Completion, Prompt, Request, Sampling, Task, Turn
from tests.rollout import fakes_groups as fakes


class Counting(Environment):
    """Answers each action with a number that was drawn at the start, as often as actions were said; is done
    after some of them, or says so by giving up where an action was cut."""

    name = "counting"

    class Config(Settings):
        num_rounds: int = 3
        max_turns: int = 8
        max_tokens: int = 100
        gives_up: bool = False

    config: Config

    @property
    def max_turns(self) -> int:
        return self.config.max_turns

    def max_tokens(self, max_new_tokens: int) -> int:
        return self.config.max_tokens

    def start(self, prompt: Prompt, seed: int) -> tuple[int, tuple[str, ...]]:
        return Random(seed).randrange(20, 30), ()

    def step(self, state: tuple[int, tuple[str, ...]], action: str, is_cut: bool) -> Step:
        number, heard = state
        after = (number, (*heard, action))
        if self.config.gives_up and is_cut:
            return Step(state=after, observation=None)
        if len(after[1]) == self.config.num_rounds:
            return Step(state=after, observation=None, is_done=True)
        return Step(state=after, observation=" ".join([str(number)] * len(after[1])))


class Recorder:
    """An engine whose nth answer is one token, n + 10, drawn by policy version n; keeps what it was asked."""

    def __init__(self, num_tokens: int = 1) -> None:
        self.asked: list[list[Request]] = []
        self._num_tokens = num_tokens

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.asked.append(list(requests))
        number = len(self.asked)
        return [
            Completion(
                token_ids=(number + 10,) * min(self._num_tokens, request.sampling.max_new_tokens),
                logprobs=(-0.5 * number,) * min(self._num_tokens, request.sampling.max_new_tokens),
                finish_reason="length" if self._num_tokens > request.sampling.max_new_tokens else "stop",
                policy_version_min=number,
                policy_version_max=number,
            )
            for request in requests
        ]


def task(num_turns: int = 2, num_samples: int = 2, **fields: object) -> Task:
    values = {
        "id": 0,
        "turns": tuple(Turn(epoch=1, index=i, prompt=fakes.prompt()) for i in range(num_turns)),
        "num_samples": num_samples,
        "sampling": Sampling(max_new_tokens=4),
        "policy_version": 3,
        "seed": 0,
    }
    return Task(**{**values, **fields})  # type: ignore[arg-type]
