"""A reward and an engine that misbehave on command, in the test's own process; runs turned by hand."""

import io
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from rich.console import Console

from cluster.loop import Loop
from cluster.plan import prepare
from cluster.progress import Progress
from cluster.recipe import parse_recipe
from cluster.run_dir import RunDir
from cluster.train import Attempt
from reward_service.reward import Reward
from reward_service.types import Sample
from rollout.engines.torch_engine import TorchEngine
from rollout.weights import Weights
from tests.system.fakes_runs import small_recipe, updates

FAULT = SimpleNamespace(reward="", is_deaf=False, is_stalled=False, go_on=threading.Event())
"""What goes wrong now: see the two classes below."""


class Moody(Reward):
    """A value of its own for every text, unless FAULT.reward says otherwise."""

    name = "moody"

    def score_one(self, sample: Sample) -> float:
        own = sum((i + 1) * ord(letter) for i, letter in enumerate(sample.completion)) % 97 / 97.0
        mood = FAULT.reward
        if mood == "fails" or (mood == "fails for half" and int(sample.id.split("/")[1]) % 2):
            raise RuntimeError("no score for this one")
        if mood == "slow":
            time.sleep(0.1)
        return {"low": own - 5.0, "equal": 0.0, "huge": own * 1e38}.get(mood, own)


class MoodyEngine(TorchEngine):
    """Keeps its old weights and says that it has the new ones; hangs in the middle of a completion."""

    name: ClassVar[str] = "moody"

    def load(self, weights: Weights) -> str:
        if FAULT.is_deaf:
            self.policy_version = weights.version
            return weights.digest
        return super().load(weights)

    def step(self) -> Any:
        if FAULT.is_stalled:
            FAULT.go_on.wait()
        return super().step()


class MarkedEngine(TorchEngine):
    """For actors, which a test reaches by files in a folder.

    While `wait` is there, nobody answers to new weights. `lie_1` and `lie_2` are a false answer each, and
    `die` is the death of a process at its work: who finds such a file takes it away and obeys.
    """

    name: ClassVar[str] = "marked"

    class Config(TorchEngine.Config):
        folder: Path

    def load(self, weights: Weights) -> str:
        while (self.config.folder / "wait").exists():
            time.sleep(0.05)
        digest = super().load(weights)
        return "another digest" if self._finds("lie_1") or self._finds("lie_2") else digest

    def step(self) -> Any:
        if self._finds("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step()

    def _finds(self, mark: str) -> bool:
        """Whether the file was there for this process: of several, one has it."""
        try:
            (self.config.folder / mark).unlink()
        except FileNotFoundError:
            return False
        return True


class Turned:
    """A run in this process, as `antiphon train` would make it, whose loop the test turns."""

    def __init__(self, name: str, model: Path, folder: Path, **changes: dict[str, Any]) -> None:
        recipe = small_recipe(model)
        engine = {"name": f"{__name__}:MoodyEngine"}
        faulty = {
            "run": {"name": name, "num_updates": 1000, "checkpoint_every": 0},
            "rollout": {"engine": engine, "max_failed_share": 1.0},
            "reward": {"components": [{"name": f"{__name__}:Moody"}], "retry": {"num_retries": 0}},
            "metrics": {"prometheus_port": 0},
        }
        for part in (faulty, changes):
            recipe = {**recipe, **{key: {**recipe.get(key, {}), **section} for key, section in part.items()}}
        plan = prepare(parse_recipe(recipe))
        self.run_dir = RunDir(folder / name)
        self.name = name
        self._stack = ExitStack()
        progress = Progress(Console(file=io.StringIO(), quiet=True), name, 1)
        self.loop: Loop = Attempt(plan, self.run_dir, progress).open(self._stack)

    def start(self, num_updates: int = 2) -> "Turned":
        """Show the first weights and make some updates, unless that was done."""
        if not self.loop.version:
            self.loop.show(0)
        while self.loop.version < num_updates:
            self.turn()
        return self

    def turn(self) -> None:
        """One update."""
        while not self.loop.turn():
            pass

    def turn_until(self, name: str, is_so: Callable[[float], bool]) -> None:
        """Updates until one of their numbers is as wanted; it then stands until the next update."""
        for _ in range(50):
            self.turn()
            if is_so(updates(self.run_dir.path)[-1][name]):
                return
        raise AssertionError(f"{name} is {updates(self.run_dir.path)[-1][name]} after 50 updates")

    def sharpen(self, factor: float) -> None:
        """Multiply the logits of the learner's model, so that it says one thing only."""
        weights = dict(self.loop._learner._process._lm.named_parameters())
        weights["model.norm.weight"].data.mul_(factor)

    def close(self) -> None:
        self._stack.close()
