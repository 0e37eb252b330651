"""Gives out prompts under the staleness bound and takes back groups; keeps the ledger true while doing so."""

import itertools
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from antiphon.errors import UserError
from cluster.admission import num_admissible
from cluster.failures import FailureWindow, ScoreTally, is_lasting, losses, tell
from cluster.ledger import Ledger
from cluster.pause import Pause
from cluster.ports import Delivery, GroupsLost, LearnerSide, Lost, Pending, RolloutSide
from cluster.rule import DispatchRule
from reward_service.types import Status
from rollout.exploration import Explorer
from rollout.prompts import PromptStream
from rollout.reports import Dropped, GroupSummary, TaskReport, parse_summary
from rollout.types import Task, Turn

Key = tuple[int, int]
FAILURES = tuple(status.value for status in Status if status is not Status.OK)
MIN_WINDOW = 8
"""Groups over which failed scores are watched, at least."""
MAX_CONSTANT_SHARE = 20
"""Batches' worth of constant groups that may be dropped for one update before the run gives up."""


class Dispatcher:
    """The driver's half of the rollout side.

    consumes: prompt positions, deliveries · waits for: nothing · produces: tasks, groups in the replay
    """

    def __init__(
        self,
        rule: DispatchRule,
        stream: PromptStream,
        rollouts: RolloutSide,
        learner: LearnerSide,
        task_ids: "itertools.count[int]",
        pause: Pause,
    ) -> None:
        self.rule = rule
        self.ledger = Ledger()
        self.scores = ScoreTally()
        self.explorer = Explorer(rule.sampling, rule.exploration)
        self.summaries: dict[Key, GroupSummary] = {}
        """Of the groups in the replay or on their way to it."""
        self._stream = stream
        self._rollouts = rollouts
        self._learner = learner
        self._task_ids = task_ids
        self._pause = pause
        self._positions: dict[Key, int] = {}
        self._acks: deque[tuple[Pending[None], frozenset[Key]]] = deque()
        self._num_constant = 0
        """Dropped since the last update."""
        self._window = self._new_window()

    @property
    def num_ready(self) -> int:
        """Groups in the replay, confirmed by the learner; 0 while a delivery is on its way there."""
        while self._acks and self._acks[0][0].is_done():
            self._settle_oldest()
        return 0 if self._acks else len(self.ledger.accepted)

    def settle(self) -> None:
        """Wait until the learner has everything that was sent to it."""
        while self._acks:
            self._settle_oldest()

    def dispatch(self, version: int) -> None:
        """Give out as many tasks as the staleness bound and the free workers allow; probes while paused."""
        if self._pause.is_on:
            self._probe(version)
            return
        while self._rollouts.num_free > 0:
            num_groups = min(self.rule.groups_per_task, self._num_admissible(version))
            is_partial = num_groups < self.rule.groups_per_task
            # Refilling only once all else is back makes the split into tasks independent of timing.
            if num_groups == 0 or (is_partial and self.ledger.running):
                return
            self._rollouts.submit(self._make_task(num_groups, version))

    def receive(self, delivery: Delivery) -> tuple[Dropped, ...]:
        """Enter a delivery into the ledger and send its groups to the replay; says what was dropped."""
        report = delivery.report
        self._watch_failures(report)
        constant = tuple(
            Dropped(epoch=g.epoch, index=g.index, reason="constant")
            for g in report.groups
            if self.rule.is_dropping_constant and g.is_constant
        )
        dropped = report.dropped + constant
        for drop in dropped:
            self.ledger.drop(self._positions.pop(drop.key), drop.reason)
        out = {drop.key for drop in dropped}
        kept = {g.key: g for g in report.groups if g.key not in out}
        for key, summary in kept.items():
            self.ledger.accept(self._positions[key])
            self.summaries[key] = summary
        if kept:
            keys = frozenset(kept)
            self._acks.append((self._learner.accept(delivery, keys), keys))
        self._watch_constant(len(constant))
        return dropped

    def reissue(self, lost: Lost) -> None:
        """The actor of a task died: give its prompts out again."""
        for turn in lost.task.turns:
            self.ledger.reissue(self._positions.pop((turn.epoch, turn.index)))

    def train(self, trained: Iterable[Key], stale: Iterable[Key]) -> list[GroupSummary]:
        """Enter an update into the ledger; returns the summaries of its groups."""
        for key in stale:
            self.ledger.drop(self._positions.pop(key), "stale")
            del self.summaries[key]
        self._num_constant = 0
        used = [self.summaries.pop(key) for key in trained]
        for summary in used:
            self.ledger.train(self._positions.pop(summary.key))
        self.ledger.check()
        return used

    def vitals(self) -> dict[str, float]:
        """What is under way and what was lost, zeros too; may be called from another thread."""
        dropped = {"stale": 0, **{f"score_{s}": 0 for s in FAILURES}, **dict(self.ledger.dropped)}
        failed = {**dict.fromkeys(FAILURES, 0), **dict(self.scores.failed)}
        return {
            "rollout/groups_running": len(self.ledger.running),
            "rollout/groups_ready": len(self.ledger.accepted),
            **{f"rollout/dropped_{reason}_total": float(n) for reason, n in dropped.items()},
            **{f"reward/failed_{status}_total": float(n) for status, n in failed.items()},
        }

    def state_dict(self) -> dict[str, Any]:
        """JSON-able; call `settle` first, so that ledger and replay agree."""
        summaries = [asdict(summary) for summary in self.summaries.values()]
        return {
            "ledger": self.ledger.state_dict(),
            "scores": self.scores.state_dict(),
            "exploration": self.explorer.state_dict(),
            "summaries": summaries,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.ledger.load_state_dict(state["ledger"])
        self.scores.load_state_dict(state["scores"])
        self.explorer.load_state_dict(state["exploration"])
        summaries = [parse_summary(s) for s in state["summaries"]]
        self.summaries = {s.key: s for s in summaries}
        turns = {position: self._stream.turn(position) for position in self.ledger.accepted}
        self._positions = {(turn.epoch, turn.index): position for position, turn in turns.items()}

    def _settle_oldest(self) -> None:
        pending, keys = self._acks.popleft()
        try:
            pending.result()
        except GroupsLost:
            # The actor died with the groups before the learner had fetched them.
            for key in sorted(keys):
                self.ledger.reissue(self._positions.pop(key))
                self.scores.withdraw(self.summaries.pop(key))

    def _num_admissible(self, version: int) -> int:
        return num_admissible(
            max_lag=self.rule.max_lag,
            version=version,
            num_updates=self.rule.num_updates,
            groups_per_update=self.rule.groups_per_update,
            num_accepted=self.ledger.num_accepted_ever,
            num_running=len(self.ledger.running),
        )

    def _make_task(self, num_groups: int, version: int) -> Task:
        positions = self.ledger.dispatch(num_groups, version)
        turns = tuple(self._stream.turn(p) for p in positions)
        self._positions |= {(t.epoch, t.index): p for t, p in zip(turns, positions, strict=True)}
        return self._task_of(turns, version)

    def _task_of(self, turns: tuple[Turn, ...], version: int) -> Task:
        return Task(
            id=next(self._task_ids),
            turns=turns,
            num_samples=self.rule.num_samples,
            sampling=self.explorer.sampling(version),
            policy_version=version,
            seed=self.rule.seed,
            needs_whole_groups=self.rule.needs_whole_groups,
        )

    def _probe(self, version: int) -> None:
        """Try a prompt whose scores failed, when it is time to and somebody is free."""
        turn = self._pause.next_turn() if self._rollouts.num_free > 0 else None
        if turn is not None:
            task = self._task_of((turn,), version)
            self._rollouts.submit(task)
            self._pause.sent(task.id)

    def _watch_failures(self, report: TaskReport) -> None:
        """Count the failed scores; pause when they cost too large a share of the newest groups."""
        groups: tuple[GroupSummary | Dropped, ...] = (*report.groups, *report.dropped)
        for group in groups:
            self.scores.enter(group)
        if self._pause.is_on:
            return  # These were given out before the pause, and say nothing new.
        recent = self._window.recent
        recent.extend(losses(report))
        if self._window.is_bad:
            self._pause.begin(tell(recent), [x.turn for x in recent if x.num_lost], is_lasting(recent))
            self._window = self._new_window()
        elif self._window.is_full:
            self._pause.forgive()

    def _new_window(self) -> FailureWindow:
        return FailureWindow(max(MIN_WINDOW, self.rule.groups_per_update), self.rule.max_failed_share)

    def _watch_constant(self, num_dropped: int) -> None:
        """Stop the run when hardly any group has two different rewards: it would sample for ever."""
        self._num_constant += num_dropped
        if self._num_constant > MAX_CONSTANT_SHARE * self.rule.groups_per_update:
            raise UserError(
                f"{self._num_constant} groups with equal rewards were dropped for one update: "
                "nothing is left to compare",
                remedy="use easier prompts, more samples per prompt or a finer reward, or set "
                "rollout.is_dropping_constant false",
            )
