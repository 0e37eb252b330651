"""`antiphon train-choice`: transitions in, a model that chooses between texts out. One process, no Ray.

<run dir>/  recipe.yaml  metrics.jsonl  events.jsonl  summary.json  vectors/  checkpoints/  model/

`model/` appears whole at the end (learner/choice/chooser.py reads it), or not at all.
"""

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from antiphon.errors import UserError
from antiphon.lease import Lease, Superseded
from antiphon.settings import parse
from cluster.checkpoints import Checkpoints, read_manifest
from cluster.choice_parts import ChoiceParts, Say, assemble_choice
from cluster.choice_recipe import ChoiceRecipe
from cluster.metrics import JsonLines
from cluster.postmortem import write_postmortem
from cluster.run_dir import RunDir
from cluster.stop import StopRequest
from cluster.train import DONE, FAILED, INTERRUPTED
from learner.choice.chooser import save_chooser
from learner.choice.measure import measure, values_of
from learner.state import load_state, save_state

MODEL = "model"
STATE = "choice"


def train_choice(recipe: ChoiceRecipe, run_dir: Path, say: Say) -> dict[str, Any]:
    """Train, measure and save; returns the summary, as it stands in summary.json.

    Its `status` is "interrupted" after Ctrl-C or SIGTERM: a checkpoint is then there to go on from.

    Args:
        run_dir: holds no run yet.
        say: prints a line for a person.

    Raises:
        UserError: no such model or data, a text that is too long, or a folder with a run.
    """
    folder = RunDir(run_dir)
    if folder.recipe.exists():
        raise UserError(f"{run_dir} already holds a run", remedy="give another --run-dir, or resume this one")
    return _attempt(recipe, folder, say, is_resumed=False)


def resume_choice(run_dir: Path, say: Say) -> dict[str, Any]:
    """Go on from the newest whole checkpoint, as if the run had never been stopped.

    Raises:
        UserError: no run, no usable checkpoint, or data that is not what it was.
        Superseded: a newer attempt has taken the run over.
    """
    folder = RunDir(run_dir)
    recipe = parse(ChoiceRecipe, folder.load_recipe())
    summary = folder.load_summary()
    if summary.get("status") == DONE:
        say(f"{run_dir} is done: there is nothing to go on with")
        return summary
    return _attempt(recipe, folder, say, is_resumed=True)


def is_choice_run(run_dir: Path) -> bool:
    """Whether the run in this folder is one that `resume_choice` goes on with.

    Raises:
        UserError: there is no run in this folder.
    """
    return "encoder" in RunDir(run_dir).load_recipe()


def _attempt(recipe: ChoiceRecipe, folder: RunDir, say: Say, *, is_resumed: bool) -> dict[str, Any]:
    run: ChoiceRun | None = None
    start_s = time.monotonic()
    lease = Lease.next_of(folder.path)
    try:
        with StopRequest() as stop:
            parts = assemble_choice(recipe, folder.path, say)
            if not is_resumed:
                folder.create(recipe.model_dump(mode="json"))
            lease.claim()
            run = ChoiceRun(recipe, folder, parts, say, start_s, lease)
            if is_resumed:
                run.load()
            return run.go(stop)
    except (UserError, Superseded):
        # Refused before it began: what another attempt left stays as it was.
        raise
    except BaseException as error:
        with lease.writing():
            write_postmortem(folder, error, run.version if run else 0)
            folder.write_summary({"status": FAILED, "version": run.version if run else 0})
        raise


class ChoiceRun:
    """The loop of one attempt, and what it writes."""

    def __init__(
        self,
        recipe: ChoiceRecipe,
        folder: RunDir,
        parts: ChoiceParts,
        say: Say,
        start_s: float,
        lease: Lease,
    ) -> None:
        """
        Args:
            start_s: when the attempt began, on time.monotonic().
            lease: claimed.
        """
        self._recipe, self._folder, self._parts, self._say = recipe, folder, parts, say
        self._lease = lease
        self._checkpoints = Checkpoints(folder.checkpoints, recipe.run.num_checkpoints, lease.writing)
        self._before: Mapping[str, float] | None = None
        self._resumed_at: int | None = None
        self._earlier_s = 0.0
        self._start_s = start_s

    @property
    def version(self) -> int:
        return self._parts.trainer.version

    def load(self) -> None:
        """Take over the newest whole checkpoint."""
        path, skipped = self._checkpoints.newest()
        for skip in skipped:
            self._say(f"skipped {skip.path.name}: {skip.reason}")
        facts = read_manifest(path)
        if facts["data"] != self._parts.data_digest:
            raise UserError(
                f"the data of {self._folder.path} is not what it was when the run began",
                remedy="restore the files that data.paths name, or start a new run",
            )
        self._parts.trainer.load_state_dict(load_state(path, STATE))
        self._before, self._earlier_s, self._resumed_at = facts["before"], facts["wall_s"], self.version
        self._folder.append_event("resumed", path=path, version=self.version)
        self._say(f"resumed from {path}")

    def go(self, stop: StopRequest) -> dict[str, Any]:
        """Updates until the end, or until a stop is asked for."""
        log = JsonLines(self._folder.metrics, self._resumed_at)
        run, trainer = self._recipe.run, self._parts.trainer
        try:
            if self._resumed_at is None:
                self._before = self._measure(log)
            while self.version < run.num_updates:
                if stop.is_requested:
                    self._save()
                    return self._end(INTERRUPTED, None)
                values = trainer.update()
                with self._lease.writing():
                    log.write(self.version, values)
                self._tell(values)
                if _is_due(self.version, self._recipe.evaluation.every, run.num_updates):
                    self._measure(log)
                if _is_due(self.version, run.checkpoint_every, run.num_updates):
                    self._save()
            after = self._measure(log)
        finally:
            log.close()
        self._publish()
        return self._end(DONE, after)

    def _measure(self, log: JsonLines) -> dict[str, float] | None:
        choices, evaluation = self._parts.choices, self._recipe.evaluation
        if choices is None:
            return None
        q = values_of(self._parts.model, choices)
        found = measure(q, choices, evaluation.temperature, evaluation.epsilon)
        with self._lease.writing():
            log.write(self.version, {f"eval/{name}": value for name, value in found.items()})
        self._say(
            f"update {self.version}: held-out accuracy {found['accuracy']:.4f}, value {found['value']:.4f} "
            f"of {found['value_best']:.4f}, exploring {found['value_exploring']:.4f}, mean error of Q "
            f"{found['value_error']:.4f}"
        )
        return found

    def _tell(self, values: Mapping[str, float]) -> None:
        num_updates = self._recipe.run.num_updates
        if self.version % max(1, num_updates // 10) == 0:
            shown = ("q/loss", "q/td_error", "q/mean", "optimizer/grad_norm")
            numbers = " ".join(f"{name} {values[name]:.4g}" for name in shown)
            self._say(f"update {self.version}/{num_updates}: {numbers}")

    def _save(self) -> None:
        facts = {"data": self._parts.data_digest, "before": self._before, "wall_s": self._wall_s()}
        state = self._parts.trainer.state_dict()
        path = self._checkpoints.save(self.version, lambda place: save_state(state, place, STATE), facts)
        self._folder.append_event("checkpoint", path=path, version=self.version)

    def _publish(self) -> None:
        """The model appears whole: written under another name, then renamed."""
        target = self._folder.path / MODEL
        temporary = target.with_name(f".{MODEL}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        save_chooser(temporary, self._parts.encoder, self._parts.model.network, self._recipe.chooser)
        with self._lease.writing():
            # There only if an attempt was killed after this, and before its summary.
            shutil.rmtree(target, ignore_errors=True)
            temporary.rename(target)

    def _end(self, status: str, after: Mapping[str, float] | None) -> dict[str, Any]:
        facts = self._parts.facts
        summary = {
            "status": status,
            "attempt": self._lease.number,
            "version": self.version,
            "wall_s": round(self._wall_s(), 1),
            **facts,
            "eval": {"before": self._before, "after": after},
        }
        with self._lease.writing():
            self._folder.write_summary(summary)
        self._lease.end(status)
        if after is not None:
            rules = ", ".join(f"{name} {value:.4f}" for name, value in facts["baselines"].items())
            self._say(f"held-out accuracy {after['accuracy']:.4f} (n {facts['num_choices']})")
            self._say(f"rules that learn nothing: {rules}")
        place = self._folder.path / MODEL if status == DONE else self._folder.path
        self._say(f"{status} at update {self.version} after {self._wall_s():.0f} s: {place}")
        return summary

    def _wall_s(self) -> float:
        return self._earlier_s + time.monotonic() - self._start_s


def _is_due(version: int, every: int, num_updates: int) -> bool:
    """Not at the end, which is measured anyway and needs no checkpoint."""
    return every > 0 and version % every == 0 and version < num_updates
