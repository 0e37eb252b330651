"""The folder of a run: where each file is, and how it appears (whole or not at all).

runs/<name>/  recipe.yaml  summary.json  metrics.jsonl  events.jsonl  trajectories/
              checkpoints/step_000010/  tensorboard/  attempts/  monitoring/
              postmortem.json (only after a fatal error)
"""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from antiphon import safe_yaml
from antiphon.errors import UserError


@dataclass(frozen=True, slots=True)
class RunDir:
    """Paths and small writes. Making one touches nothing; `create` makes the folder."""

    path: Path

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def trajectories(self) -> Path:
        return self.path / "trajectories"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def postmortem(self) -> Path:
        return self.path / "postmortem.json"

    @property
    def monitoring(self) -> Path:
        return self.path / "monitoring"

    @property
    def targets(self) -> Path:
        """Where Prometheus finds the processes of the run."""
        return self.monitoring / "targets.json"

    @property
    def scale(self) -> Path:
        """Where `antiphon scale` leaves a wish."""
        return self.path / "scale.json"

    @property
    def is_in_copy(self) -> bool:
        """Whether it lies in the copy of a working directory that Ray made for a job, and may delete."""
        return "working_dir_files" in self.path.resolve().parts

    def create(self, recipe: Mapping[str, Any]) -> None:
        """Make the folder with the resolved recipe in it.

        Raises:
            UserError: a run is already there, or the folder cannot be made.
        """
        if self.recipe.exists():
            raise UserError(
                f"{self.path} already holds a run",
                remedy=f"`antiphon resume {self.path}` goes on with it; another --run-dir starts a new one",
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be made: {error}", remedy="choose another --run-dir"
            ) from None
        write_atomically(self.recipe, yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True))

    def load_recipe(self) -> dict[str, Any]:
        """The resolved recipe of the run.

        Raises:
            UserError: there is no run in this folder, or its recipe is damaged.
        """
        if not self.recipe.exists():
            raise UserError(
                f"{self.path} holds no run", remedy="give the folder that `antiphon train` printed"
            )
        try:
            recipe: dict[str, Any] = safe_yaml.read_file(self.recipe)
        except safe_yaml.UnsafeYaml as error:
            raise UserError(
                f"{self.recipe} cannot be read: {error}", remedy="take the folder of another run"
            ) from None
        return recipe

    def load_summary(self) -> dict[str, Any]:
        """How the newest attempt ended; empty while none has."""
        return json.loads(self.summary.read_text()) if self.summary.exists() else {}

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        write_atomically(self.summary, json.dumps(summary, indent=2) + "\n")

    def append_event(self, kind: str, **facts: Any) -> None:
        """One line for something worth knowing later: a restart, a drop, a checkpoint."""
        with self.events.open("a") as file:
            file.write(json.dumps({"time": time.time(), "event": kind, **facts}, default=str) + "\n")


def new_run_dir(name: str, root: Path = Path("runs")) -> RunDir:
    """The first of runs/<name>, runs/<name>-2, … that holds no run."""
    candidates = (root / (name if n == 1 else f"{name}-{n}") for n in range(1, 10_000))
    return RunDir(next(path for path in candidates if not path.exists()))


def write_atomically(path: Path, text: str) -> None:
    """The file appears whole, or stays as it was: temporary name, fsync, rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
