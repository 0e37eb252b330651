"""Watches the batches of a run for signs that the reward is gamed: numbers at each update, alarms at times.

The learner process calls `look` with the groups that it trains on. Nothing here changes a reward, or knows
tokens, models or weights of components.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollout.alarms import Alarm, ScoredBatch
from rollout.types import Group
from rollout.watch_checks import CHECKS, Finding, View
from rollout.watch_config import WatchConfig
from rollout.watch_history import History


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchReport:
    """What one batch showed."""

    metrics: dict[str, float]
    """Under `watch/`; a number that is not defined for the batch is not there."""
    alarms: tuple[Alarm, ...]


class Watch:
    """Looks at one batch after the other."""

    def __init__(self, config: WatchConfig) -> None:
        self._config = config
        self._history = History(config.window)

    def look(self, groups: Sequence[Group], version: int) -> WatchReport:
        """The numbers of a batch, and the alarms that are news.

        An alarm that goes on is told again after as many updates as the window has. The order in which groups
        came, which differs from run to run, changes nothing, not even the rounding.

        Args:
            version: of the policy that the batch led to, for the alarms.

        Raises:
            ValueError: no groups.
        """
        if not groups:
            raise ValueError("there is nothing to look at: no groups")
        batch = ScoredBatch.of(sorted(groups, key=lambda group: group.key))
        view = View(batch=batch, history=self._history, config=self._config, metrics={})
        findings = [finding for check in CHECKS for finding in check(view)]
        alarms = tuple(self._alarm(f, view.batch, version) for f in findings if self._is_news(f, version))
        self._history.num_alarms += len(alarms)
        view.metrics["watch/alarms_total"] = float(self._history.num_alarms)
        return WatchReport(metrics=view.metrics, alarms=alarms)

    def state_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return self._history.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._history.load_state_dict(state)

    def _is_news(self, finding: Finding, version: int) -> bool:
        key = f"{finding.name} {finding.subject}"
        last = self._history.last_told.get(key)
        is_news = last is None or version - last >= self._config.window
        if is_news:
            self._history.last_told[key] = version
        return is_news

    def _alarm(self, finding: Finding, batch: ScoredBatch, version: int) -> Alarm:
        config = self._config
        return Alarm(
            name=finding.name,
            subject=finding.subject,
            version=version,
            value=finding.value,
            threshold=finding.threshold,
            message=finding.message,
            examples=batch.examples(finding.badness, config.num_examples, config.num_characters),
        )
