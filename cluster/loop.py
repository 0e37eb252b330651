"""The main loop: gather groups, learn from them, publish the weights. Everything else hangs off it.

     prompts -> Dispatcher -> RolloutSide -> groups -> LearnerSide (replay, update) -> weights -> RolloutSide
                  ^                                         |
                  +-------------- version ------------------+

`pump` moves the rollout side on, and is called from every wait: with max_lag > 0 actors work while the
learner learns. The loop knows neither Ray nor tensors: it sees two doors (ports.py). train.py drives it.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cluster.checkpoints import Stateful, check_registered
from cluster.dispatch import Dispatcher
from cluster.evaluation import Evaluator, Measurement, Round
from cluster.failures import Loss, losses, tell
from cluster.hooks import Hooks
from cluster.journal import Journal
from cluster.pause import Pause
from cluster.ports import Delivery, LearnerSide, Lost, Pending, Published, RolloutSide
from cluster.rule import DispatchRule
from cluster.stop import StopRequest
from cluster.vitals import Vitals
from cluster.watchdog import Watchdog
from learner.process import UpdateReport
from learner.state import load_state, save_state
from rollout.prompts import PromptStream
from rollout.reports import GroupSummary, TaskReport

STATE_NAME = "driver"


class Loop:
    """One run. `run` goes on from wherever the state is: a fresh start, or a loaded checkpoint."""

    def __init__(
        self,
        *,
        rule: DispatchRule,
        stream: PromptStream,
        rollouts: RolloutSide,
        learner: LearnerSide,
        rewards: Stateful,
        make_evaluator: Callable[["itertools.count[int]"], Evaluator],
        stop: StopRequest,
        hooks: Hooks,
        journal: Journal,
        stall_deadline_s: float,
    ) -> None:
        task_ids = itertools.count()
        self.version = 0
        self.weights_digest = ""
        self.journal = journal
        self._pause = Pause(
            max_share=rule.max_failed_share,
            probe_every_s=rule.probe_every_s,
            deadline_s=rule.pause_deadline_s,
            on_event=hooks.on_event,
        )
        self.dispatcher = Dispatcher(rule, stream, rollouts, learner, task_ids, self._pause)
        self._rule = rule
        self._rollouts = rollouts
        self._learner = learner
        self._evaluator = make_evaluator(task_ids)
        self._round = Round()
        self._stop = stop
        self._hooks = hooks
        self._watchdog = Watchdog(stall_deadline_s)
        self._stateful: dict[str, Stateful] = {
            "journal": self.journal,
            "dispatcher": self.dispatcher,
            "rewards": rewards,
        }
        check_registered(self, self._stateful)
        self.vitals = Vitals(
            rollouts=rollouts,
            dispatcher=self.dispatcher,
            journal=journal,
            pause=self._pause,
            num_updates=rule.num_updates,
        )

    def run(self, after_update: Callable[[int], None]) -> None:
        """Update until the recipe's number of updates is reached; `after_update` may measure and save."""
        while self.version < self._rule.num_updates:
            if self.turn():
                after_update(self.version)

    def turn(self) -> bool:
        """Once round. False when what was gathered had become too old, and there is nothing to publish.

        Without fresh groups, where all that is learned from is logged, the rollout side only measures.
        """
        self._watchdog.touch()
        self.gather()
        report = self.learn()
        groups = self.dispatcher.train(report.trained, report.stale)
        if report.num_groups:
            if groups:
                self.dispatcher.explorer.observe(self.version, groups)
            self.publish()
            self.record(groups, report.metrics)
            for alarm in report.alarms:
                self._hooks.on_event("alarm", **asdict(alarm))
        return report.num_groups > 0

    def gather(self) -> None:
        """Until the replay has what is fresh in a batch. A stop request is honoured here, where nothing is
        half done."""
        with self.journal.phase("wait"):
            self._stop.check()
            while self.dispatcher.num_ready < self._rule.groups_per_update:
                self._look_for_end()
                self.pump()

    def learn(self) -> UpdateReport:
        """One update; rollouts go on meanwhile as far as the staleness bound lets them."""
        with self.journal.phase("learn"):
            return self.wait_for(self._learner.update(self.version), "update")

    def publish(self) -> None:
        """Bring the learner's weights to every actor; only then is the version current."""
        self.show(self.version + 1)
        self.version += 1

    def show(self, version: int) -> None:
        """Publish without counting an update: at the start, and after a resume."""
        with self.journal.phase("publish"):
            published: Published = self.wait_for(self._learner.publish(version), "publish")
            self._rollouts.load(published)
        self.weights_digest, self.vitals.is_on = published.digest, True
        self._watchdog.touch()

    def record(self, groups: Sequence[GroupSummary], metrics: Mapping[str, float]) -> None:
        """Tell the numbers of the update that led to the current version."""
        values = self.journal.record_update(self.version, groups)
        dropped = {f"rollout/dropped_{k}_total": float(n) for k, n in self.dispatcher.ledger.dropped.items()}
        failed = self.dispatcher.scores.metrics()
        explored = self.dispatcher.explorer.metrics(self.version - 1)
        self._hooks.on_update(self.version, {**values, **metrics, **dropped, **failed, **explored})

    def warm_up(self) -> dict[str, float]:
        """The supervised phase. A stop request ends it at once: it is made anew by whoever goes on."""
        with self.journal.phase("warm_up"):
            pending = self._learner.warm_up(lambda: self._stop.is_requested)
            while not (pending.is_done() or self._stop.is_requested):
                self.pump("the learner to warm up")
            self._stop.check()
            return self.wait_for(pending, "warm up")

    def measure(self) -> Measurement:
        """The held-out metric at the current version.

        Where scoring worked before and now none of the prompts is scored, the run pauses and tries again.
        """
        with self.journal.phase("eval"):
            reports = self._play_held_out()
            while self.journal.before is not None and self._evaluator.is_worth_repeating(reports):
                self._outlast([loss for report in reports for loss in losses(report)])
                reports = self._play_held_out()
        measurement = self._evaluator.measure(reports)
        self.journal.record_measurement(measurement)
        self._hooks.on_measurement(self.version, measurement)
        return measurement

    def pump(self, waiting_for: str = "") -> None:
        """Give out what may be given out, take in what came back; the rollout side is waited for, or else
        whoever is named."""
        if self._round.is_done:
            self.dispatcher.dispatch(self.version)
        arrivals = self._rollouts.collect()
        if self._pause.is_on and not arrivals:
            self._pause.rest()
        for arrival in arrivals:
            self._watchdog.touch()
            if isinstance(arrival, Lost):
                self._reissue(arrival)
            else:
                self._receive(arrival)
        self._watchdog.check(lambda: waiting_for or self._rollouts.describe())

    def wait_for(self, pending: Pending[Any], what: str) -> Any:
        """The answer of the learner, which was asked to do `what`; pumps until it is there."""
        while not pending.is_done():
            self.pump(f"the learner to {what}")
        self._watchdog.touch()
        return pending.result()

    def save(self, folder: Path) -> None:
        """Write everything that has state into `folder`."""
        self.dispatcher.settle()
        self._learner.save(folder).result()
        parts = {name: part.state_dict() for name, part in self._stateful.items()}
        save_state({"version": self.version, **parts}, folder, STATE_NAME)

    def load(self, folder: Path) -> None:
        """Take up what `save` wrote, and show the weights to the actors."""
        state = load_state(folder, STATE_NAME)
        self.version = state["version"]
        for name, part in self._stateful.items():
            part.load_state_dict(state[name])
        self._learner.load(folder).result()
        self.show(self.version)

    def _look_for_end(self) -> None:
        """Called where nothing is half done: raises when the run shall stop here, saved as it is."""
        self._stop.check()
        self._pause.check()

    def _play_held_out(self) -> list[TaskReport]:
        """The reports of all tasks of one evaluation."""
        self._round = Round(self._evaluator.make_tasks(self.version))
        while not self._round.is_done:
            self._round.give_out(self._rollouts)
            self._stop.check()
            self.pump()
        return self._round.reports

    def _outlast(self, lost: Sequence[Loss]) -> None:
        """Pause until a prompt of these is scored."""
        self._pause.begin(tell(lost), [loss.turn for loss in lost])
        while self._pause.is_on:
            self._look_for_end()
            self.pump()

    def _receive(self, delivery: Delivery) -> None:
        report = delivery.report
        self.journal.record_task(report)
        if self._round.take(report):
            return
        if report.task.id == self._pause.probe:
            self._pause.answer(report)
            return
        for drop in self.dispatcher.receive(delivery):
            self._hooks.on_event(
                "dropped", **{"key": drop.key, "reason": drop.reason, "message": drop.message}
            )
        for group in report.groups:
            if group.failed:
                facts = [{"sample": f.number, "status": f.status, "message": f.message} for f in group.failed]
                self._hooks.on_event("left_out", key=group.key, samples=facts)

    def _reissue(self, lost: Lost) -> None:
        self._hooks.on_event("task_lost", task=lost.task.id, reason=lost.reason)
        if lost.task.id == self._pause.probe:
            self._pause.lose()
        elif not self._round.lose(lost.task):
            self.dispatcher.reissue(lost)
