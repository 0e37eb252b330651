"""Rewards and engines that recipes of these tests name by import path."""

import os
from typing import ClassVar

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


class DyingEngine(TorchEngine):
    """An engine whose process ends in the middle of every generation."""

    name: ClassVar[str] = "dying"

    def step(self):
        os._exit(3)


class WrongEngine(TorchEngine):
    """An engine with a bug in its code."""

    name: ClassVar[str] = "wrong"

    def step(self):
        raise ZeroDivisionError("a bug in the engine")
