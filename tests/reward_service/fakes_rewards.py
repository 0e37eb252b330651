"""Rewards and samples for the tests of this folder; the recipes of the tests name them by import path."""

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from antiphon.settings import Settings, parse
from reward_service.building import build_reward
from reward_service.config import RewardConfig
from reward_service.reward import InvalidInput, Reward, Unparseable
from reward_service.types import Sample, Score, Status

HERE = "tests.reward_service.fakes_rewards"


def sample(completion: str = "", **fields: Any) -> Sample:
    return Sample(**{"id": "s", "prompt": "p", "completion": completion, **fields})


def recipe(*components: Mapping[str, Any], **settings: Any) -> RewardConfig:
    """The reward section of a recipe, read as from YAML."""
    plain = {"components": list(components), "retry": {"num_retries": 0}}
    return parse(RewardConfig, {**plain, **settings}, "reward")


NEEDED_OPTIONS: dict[str, dict[str, Any]] = {
    "regex": {"pattern": "[a-z]+"},
    "length": {"max": 3},
    "reasoning_gym": {"dataset": "chain_sum"},
    "json_schema": {"rules": {"type": "object"}},
    "knowledge_graph": {"path": str(Path(__file__).parent / "data" / "countries.tsv")},
    "noisy": {"of": "exact_match", "sigma": 0.5},
    "judge": {"backend": {"name": "scripted", "replies": ["Score: 5"]}},
    "pairwise": {"backend": {"name": "scripted", "replies": ["Better: tie"]}, "opponents": "reference"},
    "human": {"file": str(Path(__file__).parent / "data" / "human.jsonl")},
    "walk": {"graph_seed": 1000},
}
"""What the built-in components cannot do without."""


def needed_options(name: str) -> dict[str, Any]:
    """What a built-in component cannot do without."""
    if name in ("classifier", "embedding", "reward_model"):
        # Imported here: child processes that import this file do without torch.
        from tests.reward_service.fakes_networks import options

        return options(name)
    return NEEDED_OPTIONS.get(name, {})


def judge(name: str, *samples: Sample, **options: Any) -> list[Score]:
    """The scores of one built-in component."""
    reward = build_reward(name, {**needed_options(name), **options}, "reward.components.0")
    reward.start()
    return reward.score(samples)


def value(name: str, completion: str, reference: str | None = None, **options: Any) -> float | None:
    return judge(name, sample(completion, reference=reference), **options)[0].value


class Obedient(Reward):
    """Does what the completion says."""

    name = "obedient"
    range = (float("-inf"), float("inf"))

    def score_one(self, sample: Sample) -> float:
        match sample.completion.split():
            case ["invalid"]:
                raise InvalidInput("no such thing")
            case ["unparseable"]:
                raise Unparseable("the judge hummed")
            case ["late"]:
                raise TimeoutError("the judge sleeps")
            case ["raise"]:
                raise ZeroDivisionError("over nought")
            case ["nothing"]:
                return None  # type: ignore[return-value]
            case ["text"]:
                return "1.0"  # type: ignore[return-value]
            case ["nan"]:
                return float("nan")
            case ["inf"]:
                return float("inf")
            case [number]:
                return float(number)
        raise AssertionError(sample.completion)


class Bulk(Reward):
    """Judges a whole batch at once, and may break as a whole."""

    name = "bulk"

    class Config(Settings):
        breaks: bool = False
        forgets: str = ""

    config: Config

    def score_one(self, sample: Sample) -> float:
        return 0.5

    def score(self, samples: Any) -> Any:
        if self.config.breaks:
            raise RuntimeError("out of memory")
        return [s for s in super().score(samples) if s.id != self.config.forgets]


class Broken(Reward):
    """Can be built where the recipe is checked, and nowhere else."""

    name = "broken"

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        if "pytest" not in sys.modules:
            raise RuntimeError("there is no weights file")

    def score_one(self, sample: Sample) -> float:
        return 0.0


class ProcessId(Reward):
    """In which process the sample was scored."""

    name = "process_id"
    range = (0.0, float("inf"))

    def score_one(self, sample: Sample) -> float:
        return float(os.getpid())


class BatchSize(Reward):
    """A model of its own that takes a moment for any batch, and scores how large it was."""

    name = "batch_size"
    placement = "own"
    range = (0.0, float("inf"))

    class Config(Settings):
        nap_s: float = 0.2

    config: Config

    def score_one(self, sample: Sample) -> float:
        return 1.0

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        time.sleep(self.config.nap_s)
        return [Score(id=s.id, status=Status.OK, value=float(len(samples))) for s in samples]


def id_after_a_nap(id: str, metadata: Mapping[str, Any]) -> float:
    """f(id), after as many seconds as the sample says."""
    time.sleep(metadata.get("nap_s", 0.0))
    return float(id)


def dangerous(completion: str) -> float:
    """Ends or hangs the process where told to."""
    if completion == "exit":
        os._exit(1)
    if completion == "hang":
        # Exponential: 2^40 ways to split, all tried while the interpreter lock is held.
        re.fullmatch("(a+)+", "a" * 40 + "b")
    return 1.0


def only_completion(completion):
    return len(completion)


def all_fields(prompt: str, completion: str, reference: str, metadata: Mapping[str, Any]) -> float:
    return float(f"{prompt}{completion}{reference}{metadata['digit']}")


def optional_reference(completion: str, reference: str | None = None) -> float:
    return 0.0 if reference is None else 1.0


def with_options(completion: str, word: str, bonus: float = 2.0) -> float:
    return bonus * completion.count(word)


def variadic(*texts: str) -> float:
    return 0.0


async def asynchronous(completion: str) -> float:
    return 0.0


class NoReward:
    """A class, but no component."""


NOT_CALLABLE = 3
