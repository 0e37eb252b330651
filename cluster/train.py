"""One attempt at a run: wires plan, assembly, loop and sinks, and ends with a summary whatever happens."""

import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from antiphon.errors import UserError
from antiphon.lease import Lease, Superseded
from antiphon.privacy import build_masker
from cluster.assembly import assemble
from cluster.checkpoints import Checkpoints
from cluster.elastic import make_elastic
from cluster.evaluation import Evaluator
from cluster.journal import Journal
from cluster.loop import Loop
from cluster.metrics import Prometheus, open_prometheus, open_sinks
from cluster.monitoring.sink import open_sink
from cluster.pause import ScoringFails
from cluster.plan import Plan
from cluster.postmortem import write_postmortem
from cluster.progress import Progress
from cluster.recipe import Recipe
from cluster.rule import DispatchRule
from cluster.run_dir import RunDir
from cluster.stop import Interrupted, StopRequest
from cluster.takeover import LOOK_EVERY_S, Occasionally
from cluster.watchers import Watchers
from rollout.prompts import PromptStream

DONE, INTERRUPTED, FAILED = "done", "interrupted", "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the attempt ended."""

    status: str
    summary: Mapping[str, Any]


class Attempt:
    """Everything around the loop of one attempt."""

    def __init__(
        self,
        plan: Plan,
        run_dir: RunDir,
        progress: Progress,
        run_id: str | None = None,
        resumed_at: int | None = None,
        lease: Lease | None = None,
    ) -> None:
        """
        Args:
            lease: claimed, where the folder holds a run; None where it holds none.
        """
        self._plan = plan
        self._recipe = plan.recipe
        self._masker = build_masker(plan.recipe.privacy)
        self._run_dir = run_dir
        self._progress = progress
        self._run_id = run_id or uuid.uuid4().hex[:8]
        self._resumed_at = resumed_at
        self._is_fresh = lease is None
        self._lease = lease or Lease.next_of(run_dir.path)
        self._checkpoints = Checkpoints(
            run_dir.checkpoints, plan.recipe.run.num_checkpoints, self._lease.writing
        )
        self._stop = StopRequest(Occasionally(self._lease.check, LOOK_EVERY_S))
        self._journal = Journal()
        self._loop: Loop | None = None

    def run(self, start: Callable[["Attempt", Loop], None]) -> Outcome:
        """Assemble, let `start` bring the loop to where it begins, run it, and write the summary.

        Raises:
            Exception: whatever ended the run, after summary.json and postmortem.json are written.
            Superseded: a newer attempt has taken the run over; nothing is written.
        """
        try:
            with ExitStack() as stack:
                stack.enter_context(self._stop)
                loop = self.open(stack)
                status = self._drive(loop, start)
        except BaseException as error:
            self._end_if_superseded(error)
            # What was refused before the loop began leaves an older attempt's files as they were.
            is_refused = self._loop is None and isinstance(error, UserError)
            if is_refused and not self._is_fresh:
                self._lease.give_back()
            if self._run_dir.recipe.exists() and not is_refused:
                version = self._loop.version if self._loop else 0
                with self._lease.writing():
                    write_postmortem(self._run_dir, error, version, self._masker)
                self.summarize(FAILED)
            raise
        return Outcome(status=status, summary=self.summarize(status))

    def begin(self, loop: Loop) -> None:
        """A fresh run: supervised phase, first publication, first measurement."""
        if self._recipe.warm_up is not None:
            self._progress.say("supervised phase")
            self._progress.tell("warm-up", loop.warm_up())
        loop.show(0)
        loop.measure()
        if self._recipe.run.checkpoint_every:
            self.save(loop)

    def resume(self, loop: Loop) -> None:
        """A run that goes on from its newest whole checkpoint."""
        path, skipped = self._checkpoints.newest()
        for skip in skipped:
            self._event("checkpoint_skipped", path=skip.path, reason=skip.reason)
            self._progress.say(f"skipped {skip.path.name}: {skip.reason}")
        loop.load(path)
        self._event("resumed", path=path, version=loop.version)
        self._progress.say(f"resumed from {path}")
        if loop.journal.before is None:
            loop.measure()

    def save(self, loop: Loop) -> None:
        """Publish a checkpoint of the loop as it is now."""
        with loop.journal.phase("checkpoint"):
            facts = {"run_id": self._run_id, "attempt": self._lease.number}
            path = self._checkpoints.save(loop.version, loop.save, facts)
        self._event("checkpoint", path=path, version=loop.version)

    def open(self, stack: ExitStack) -> Loop:
        """A loop with everything around it, for `run` or for whoever turns it by hand (rllib.py).

        Closing the stack ends all processes of the run.
        """
        recipe = self._recipe
        prometheus = open_prometheus(recipe.metrics)
        self._progress.say(f"starting {_parts(recipe)}")
        with self._journal.phase("start"):
            rollouts, learner, rewards = stack.enter_context(
                assemble(self._plan, self._run_id, self._run_dir.trajectories, self._lease, self._event)
            )
        if self._is_fresh:
            self._run_dir.create(recipe.to_dict())
            self._lease.claim()
        hooks = self._watchers(stack, prometheus, rewards.metrics).hooks
        self._loop = Loop(
            rule=DispatchRule.of(recipe, is_group_relative=self._plan.algorithm.is_group_relative),
            stream=PromptStream(self._plan.train, recipe.run.seed),
            rollouts=make_elastic(rollouts, recipe, self._run_dir, self._journal, hooks.on_event),
            learner=learner,
            rewards=rewards,
            make_evaluator=partial(
                Evaluator,
                recipe.evaluation,
                self._plan.held_out,
                recipe.rollout.settled,
                recipe.run.seed,
            ),
            stop=self._stop,
            hooks=hooks,
            journal=self._journal,
            stall_deadline_s=recipe.cluster.stall_deadline_s,
        )
        return self._loop

    def _watchers(
        self,
        stack: ExitStack,
        prometheus: Prometheus | None,
        reward_metrics: Callable[[], Mapping[str, float]],
    ) -> Watchers:
        """All who are told of the run; closing the stack closes their files and the terminal's live bar."""
        recipe, folder = self._recipe, self._run_dir
        sinks = open_sinks(recipe.metrics, folder.metrics, folder.tensorboard, self._resumed_at)
        if prometheus is not None:
            sinks.append(open_sink(prometheus, recipe, folder, self._resumed_at, self._vitals))
            self._progress.say(f"metrics: {prometheus.url}; `antiphon dashboard {folder.path}` shows them")
        for sink in sinks:
            stack.callback(sink.close)
        stack.enter_context(self._progress)
        return Watchers(
            sinks=sinks,
            progress=self._progress,
            write_event=self._event,
            masker=self._masker,
            lease=self._lease,
            reward_metrics=reward_metrics,
        )

    def _drive(self, loop: Loop, start: Callable[["Attempt", Loop], None]) -> str:
        try:
            start(self, loop)
            loop.run(partial(self._after_update, loop))
            loop.measure()
            self.save(loop)
        except Interrupted:
            self._save_unfinished(loop)
            return INTERRUPTED
        except ScoringFails:
            self._save_unfinished(loop)
            raise
        return DONE

    def _save_unfinished(self, loop: Loop) -> None:
        """Save a run that stops before its end; before its first weights are published there is nothing."""
        if loop.weights_digest:
            self._progress.say("stopping: saving a checkpoint")
            self.save(loop)
        else:
            self._progress.say("stopping: nothing is learned yet that could be saved")

    def _after_update(self, loop: Loop, version: int) -> None:
        """Measure and save when due; the last update is followed by both anyway."""
        run, evaluation = self._recipe.run, self._recipe.evaluation
        if version == run.num_updates:
            return
        if evaluation.every and version % evaluation.every == 0:
            loop.measure()
        if run.checkpoint_every and version % run.checkpoint_every == 0:
            self.save(loop)

    def summarize(self, status: str) -> dict[str, Any]:
        """Write summary.json."""
        loop = self._loop
        summary = {
            "status": status,
            "attempt": self._lease.number,
            "version": loop.version if loop else self._resumed_at or 0,
            "weights_digest": loop.weights_digest if loop else "",
            **(loop.journal if loop else Journal()).summarize(),
            "dropped": dict(loop.dispatcher.ledger.dropped) if loop else {},
            "recipe": self._recipe.to_dict(),
        }
        with self._lease.writing():
            self._run_dir.write_summary(summary)
        self._lease.end(status)
        return summary

    def _vitals(self) -> dict[str, float]:
        """What a scrape asks for, which may come before there is a loop."""
        return self._loop.vitals.look() if self._loop else {}

    def _event(self, kind: str, **facts: Any) -> None:
        if self._run_dir.recipe.exists() and self._lease.is_current():
            self._run_dir.append_event(kind, **self._masker.tree(facts))

    def _end_if_superseded(self, error: BaseException) -> None:
        """Whatever went wrong, it is of no interest any more; the learner's own refusal arrives here, too."""
        try:
            self._lease.check()
        except Superseded as superseded:
            raise superseded from error
        if isinstance(error, Superseded):
            raise error


def newest_checkpoint(run_dir: RunDir) -> Path:
    """The newest whole checkpoint of a run."""
    return Checkpoints(run_dir.checkpoints, 1).newest()[0]


def _parts(recipe: Recipe) -> str:
    """What an attempt is about to bring up, for people."""
    if recipe.cluster.mode == "inline":
        return "all parts in this process"
    return f"Ray: {recipe.rollout.num_actors} rollout actors, the reward service, the learner"
