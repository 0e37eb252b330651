"""Remembers what the run did: the numbers of each update, and the summary at the end."""

import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from cluster.evaluation import Measurement
from rollout.entropy import mean_entropy
from rollout.reports import GroupSummary, TaskReport


class Journal:
    """Running totals of the run, over resumes."""

    def __init__(self) -> None:
        self.num_prompts = 0
        self.num_samples = 0
        self.num_tokens = 0
        self.reward_first: float | None = None
        self.reward_last: float | None = None
        self.before: Measurement | None = None
        self.after: Measurement | None = None
        self.max_lag_seen = 0
        self.wall_s = 0.0
        """Of earlier attempts; see `total_wall_s`."""
        self.phases_s: defaultdict[str, float] = defaultdict(float)
        self._started_s = time.monotonic()
        self._open_s: dict[str, float] = {}
        """When the phases began that are not over yet."""
        # A scrape between the two writes at the end of a phase would see time go back, as after a restart.
        self._lock = threading.Lock()

    @property
    def total_wall_s(self) -> float:
        return self.wall_s + time.monotonic() - self._started_s

    @property
    def phase_now(self) -> str:
        """What the driver is at; empty in between."""
        return next(reversed(self._open_s), "")

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Charge the time inside the block to a phase of the driver."""
        with self._lock:
            start_s = self._open_s[name] = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                del self._open_s[name]
                self.phases_s[name] += time.monotonic() - start_s

    def vitals(self) -> dict[str, float]:
        """Seconds by phase up to this moment, and totals; may be called from another thread."""
        with self._lock:
            now_s, seconds = time.monotonic(), dict(self.phases_s)
            for name, start_s in list(self._open_s.items()):
                seconds[name] = seconds.get(name, 0.0) + now_s - start_s
        return {f"run/{name}_seconds_total": s for name, s in seconds.items()} | self._totals()

    def record_task(self, report: TaskReport) -> None:
        """Charge the worker's time; several workers may be busy at once."""
        self.phases_s["rollout"] += report.generate_s
        self.phases_s["reward"] += report.score_s

    def record_update(self, version: int, groups: Sequence[GroupSummary]) -> dict[str, float]:
        """Enter the fresh groups of the update that led to `version`; returns their numbers, totals, and the
        seconds by phase until now."""
        return {**(self._enter(version, groups) if groups else {}), **self.vitals()}

    def _enter(self, version: int, groups: Sequence[GroupSummary]) -> dict[str, float]:
        rewards = [r for g in groups for r in g.rewards]
        tokens = [n for g in groups for n in g.num_tokens]
        lags = [version - 1 - g.policy_version for g in groups]
        self.num_prompts += len(groups)
        self.num_samples += len(rewards)
        self.num_tokens += sum(tokens)
        self.reward_last = statistics.fmean(rewards)
        self.reward_first = self.reward_last if self.reward_first is None else self.reward_first
        self.max_lag_seen = max(self.max_lag_seen, *lags)
        return {
            "reward/mean": self.reward_last,
            "reward/std": statistics.pstdev(rewards),
            "reward/constant_groups": statistics.fmean(g.is_constant for g in groups),
            **{f"reward/{label}": value for label, value in _means(groups).items()},
            "rollout/completion_tokens": statistics.fmean(tokens),
            "rollout/entropy": mean_entropy(groups),
            "rollout/truncated": sum(g.num_truncated for g in groups) / len(rewards),
            "rollout/lag_mean": statistics.fmean(lags),
            "rollout/lag_max": max(lags),
        }

    def _totals(self) -> dict[str, float]:
        return {
            "rollout/prompts_total": self.num_prompts,
            "rollout/samples_total": self.num_samples,
            "rollout/completion_tokens_total": self.num_tokens,
            "run/wall_seconds": self.total_wall_s,
        }

    def record_measurement(self, measurement: Measurement) -> None:
        """The first one is `before`; the newest one is `after`."""
        if self.before is None:
            self.before = measurement
        else:
            self.after = measurement

    def summarize(self) -> dict[str, Any]:
        """The part of summary.json that the journal knows."""
        before, after = self.before, self.after
        return {
            "prompts": self.num_prompts,
            "samples": self.num_samples,
            "completion_tokens": self.num_tokens,
            "reward_first": self.reward_first,
            "reward_last": self.reward_last,
            "eval": {
                "metric": before.metric if before else None,
                "before": before.value if before else None,
                "after": after.value if after else None,
                "n": before.n if before else 0,
            },
            "wall_s": round(self.total_wall_s, 3),
            "phases_s": {name: round(seconds, 3) for name, seconds in self.phases_s.items()},
            "max_lag_seen": self.max_lag_seen,
        }

    def state_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "num_prompts": self.num_prompts,
            "num_samples": self.num_samples,
            "num_tokens": self.num_tokens,
            "reward_first": self.reward_first,
            "reward_last": self.reward_last,
            "before": self.before and asdict(self.before),
            "after": self.after and asdict(self.after),
            "max_lag_seen": self.max_lag_seen,
            "wall_s": self.total_wall_s,
            "phases_s": dict(self.phases_s),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in ("num_prompts", "num_samples", "num_tokens", "reward_first", "reward_last"):
            setattr(self, name, state[name])
        self.before = state["before"] and Measurement(**state["before"])
        self.after = state["after"] and Measurement(**state["after"])
        self.max_lag_seen = state["max_lag_seen"]
        self.wall_s = state["wall_s"]
        self.phases_s = defaultdict(float, state["phases_s"])


def _means(groups: Sequence[GroupSummary]) -> dict[str, float]:
    """The mean raw score of each component."""
    labels = dict.fromkeys(label for group in groups for label in group.parts)
    return {
        label: statistics.fmean(value for group in groups for value in group.parts.get(label, ()))
        for label in labels
    }
