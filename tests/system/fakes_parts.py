"""Rewards and engines that recipes of these tests name by import path."""

import os
import signal
import time
from pathlib import Path
from typing import ClassVar

from antiphon.lease import Lease
from rollout.engines.torch_engine import TorchEngine


def by_text(completion: str) -> float:
    """Every text has its own value, so that wrong tokens or a wrong order change the losses."""
    return sum((i + 1) * ord(letter) for i, letter in enumerate(completion)) % 97 / 97.0


def by_id(id: str) -> float:
    """The value that belongs to "epoch/index/number" and to no other sample."""
    if id == "trial":
        return 0.0
    epoch, index, number = (int(part) for part in id.split("/"))
    return epoch + index / 100 + number / 1000


def raises(completion: str) -> float:
    raise RuntimeError("this reward always fails")


def raises_sometimes(id: str) -> float:
    """Fails for about a quarter of the samples, and always for the same."""
    _, index, number = (int(part) for part in id.split("/")) if id != "trial" else (0, 0, 0)
    if (index + number) % 4 == 2:
        raise RuntimeError("no score for this one")
    return 0.0


def repeats(id: str) -> float:
    """One constant value, but one sample fails with a message that repeats an address."""
    if id == "0/1/0":
        raise RuntimeError("cannot judge anna@example.org")
    return 0.5


class DyingEngine(TorchEngine):
    """An engine whose process ends in the middle of every generation."""

    name: ClassVar[str] = "dying"

    def step(self):
        os._exit(3)


class OnceKilledEngine(TorchEngine):
    """An engine whose process is killed in the middle of a generation with version 1, once in a run."""

    name: ClassVar[str] = "once_killed"

    class Config(TorchEngine.Config):
        marker: Path
        """Made just before the kill, by one process alone; while it exists nobody is killed."""

    def step(self):
        if self.policy_version == 1 and made(self.config.marker):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step()


class OverlappedEngine(TorchEngine):
    """An engine whose nth call is under way when the next version comes: after two steps it waits for it."""

    name: ClassVar[str] = "overlapped"

    class Config(TorchEngine.Config):
        number: int
        """The call that waits, counted from 1."""

    num_calls = 0
    num_steps = 0
    version_at_begin = 0

    def generate(self, requests):
        self.num_calls += 1
        self.num_steps, self.version_at_begin = 0, self.policy_version
        return super().generate(requests)

    @property
    def has_work(self):
        """Asked between two steps, when weights may come; in a step too, but by then they are there."""
        if self.num_calls == self.config.number and self.num_steps == 2:
            deadline_s = time.monotonic() + 60.0
            while self.policy_version == self.version_at_begin:
                assert time.monotonic() < deadline_s, "no new weights while a completion was under way"
                time.sleep(0.002)
        return super().has_work

    def step(self):
        ended = super().step()
        self.num_steps += 1
        return ended


class UnreachableEngine(TorchEngine):
    """Takes weights only while nothing is under way."""

    name: ClassVar[str] = "unreachable"
    can_update_in_flight: ClassVar[bool] = False


def made(marker: Path) -> bool:
    """Whether this process made the file; of several that try at once, one does."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def raises_on_training(id: str) -> float:
    """Scores the trial and the evaluation (epoch -1), and nothing else."""
    if id == "trial" or id.startswith("-1/"):
        return 0.0
    raise RuntimeError("only samples of the training fail")


class OnceFrozenEngine(TorchEngine):
    """An engine that freezes its process in a generation with version 2, once in a run, as a node does that
    is believed lost; it goes on when it gets SIGCONT."""

    name: ClassVar[str] = "once_frozen"

    class Config(TorchEngine.Config):
        marker: Path
        """Made just before, by one process alone."""

    def step(self):
        if self.policy_version == 2 and made(self.config.marker):
            os.kill(os.getpid(), signal.SIGSTOP)
        return super().step()


class GatedEngine(TorchEngine):
    """An engine that waits in the middle of its first generation with version v while `hold_v` is there."""

    name: ClassVar[str] = "gated"

    class Config(TorchEngine.Config):
        folder: Path
        """Of the gates; `at_v_pid` appears in it when a process comes to an open or a closed one."""

    _passed: int | None = None

    def step(self):
        if self._passed != self.policy_version:
            self._passed = self.policy_version
            (self.config.folder / f"at_{self.policy_version}_{os.getpid()}").touch()
            while (self.config.folder / f"hold_{self.policy_version}").exists():
                time.sleep(0.05)
        return super().step()


class UsurpingEngine(TorchEngine):
    """An engine that, in a generation with version 2, does to its run what another attempt would do."""

    name: ClassVar[str] = "usurping"

    class Config(TorchEngine.Config):
        run_dir: Path

    def step(self):
        if self.policy_version == 2 and Lease.next_of(self.config.run_dir).number == 2:
            Lease.next_of(self.config.run_dir).claim()
        return super().step()
