"""Algorithms whose ranks say where they are, or die, which recipes of these tests name by import path."""

import os
import signal
from pathlib import Path
from typing import ClassVar

import ray
import torch.distributed as dist

from learner.algorithms.ppo import PPO
from learner.batch import Batch
from tests.system.fakes_parts import made


class OnceKilledRank(PPO):
    """PPO whose second rank is killed in the middle of its third update, once in a run."""

    name: ClassVar[str] = "once_killed_rank"

    class Config(PPO.Config):
        marker: Path
        """Made just before the kill; while it exists nobody is killed."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._marker, self._num_updates = config.marker, 0

    def prepare(self, batch: Batch) -> Batch:
        self._num_updates += 1
        is_second = dist.is_initialized() and dist.get_rank() == 1
        if self._num_updates == 3 and is_second and made(self._marker):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().prepare(batch)


class PlacedRank(PPO):
    """PPO whose ranks leave the name of their node."""

    name: ClassVar[str] = "placed_rank"

    class Config(PPO.Config):
        folder: Path
        """Gets a file for each rank."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._folder = config.folder

    def prepare(self, batch: Batch) -> Batch:
        node = ray.get_runtime_context().get_node_id()
        (self._folder / f"rank_{dist.get_rank()}").write_text(node)
        return super().prepare(batch)
