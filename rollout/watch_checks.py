"""What is looked for in a batch. Each check notes its numbers, and yields a finding where they are too bad.

A check is one function of a batch, the history and the thresholds; CHECKS lists them. watch.py makes alarms
of findings.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from rollout.alarms import ScoredBatch
from rollout.watch_config import WatchConfig
from rollout.watch_history import History
from rollout.watch_numbers import (
    Array,
    correlation,
    disagreement,
    duplicates_in_batch,
    duplicates_in_group,
    standardised,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A number past its threshold."""

    name: str
    subject: str = ""
    value: float
    threshold: float
    message: str
    badness: Array
    """[n]: which samples show it best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a check is given: one update, what came before, what is too much, and where numbers go."""

    batch: ScoredBatch
    history: History
    config: WatchConfig
    metrics: dict[str, float]

    def note(self, name: str, value: float) -> None:
        """A number becomes a metric, and a part of the history."""
        self.history.push(name, value)
        if np.isfinite(value):
            self.metrics[f"watch/{name}"] = float(value)


def length(view: View) -> Iterator[Finding]:
    """Reward against length."""
    batch, limit = view.batch, view.config.length_correlation
    view.note("length_correlation", correlation(batch.values, batch.lengths, batch.groups))
    view.history.push("length", float(batch.lengths.mean()))
    mean, change = view.history.mean("length_correlation"), view.history.change("length")
    if limit is None or mean is None or change is None:
        return
    way = 1.0 if mean > 0.0 else -1.0
    if abs(mean) >= limit and way * change >= view.config.length_change:
        word = "longer" if way > 0.0 else "shorter"
        yield Finding(
            name="length_correlation",
            value=mean,
            threshold=limit,
            message=f"{word} completions are paid more (correlation {mean:.2f} over {view.config.window} "
            f"updates), and they have become {word} ({change:+.0%})",
            badness=standardised(batch.values) + way * standardised(batch.lengths),
        )


def duplicates(view: View) -> Iterator[Finding]:
    """The same text again: for one prompt, and for several."""
    batch, config = view.batch, view.config
    num_alike = Counter(batch.completions)
    cases = (
        (
            "duplicates_in_group",
            duplicates_in_group(batch.completions, batch.groups),
            config.duplicates_in_group,
            "have a twin among those of the same prompt",
        ),
        (
            "duplicates_in_batch",
            duplicates_in_batch(batch.completions, batch.prompts),
            config.duplicates_in_batch,
            "were also given to another prompt",
        ),
    )
    for name, share, limit, words in cases:
        view.note(name, share)
        mean = view.history.mean(name)
        if limit is not None and mean is not None and mean >= limit:
            yield Finding(
                name=name,
                value=mean,
                threshold=limit,
                message=f"{mean:.0%} of the completions {words} (mean of {config.window} updates)",
                badness=np.array([float(num_alike[text]) for text in batch.completions]),
            )


def pairs(view: View) -> Iterator[Finding]:
    """Components against each other, and against the reward."""
    batch = view.batch
    for label, values in batch.parts.items():
        view.note(f"correlation_with_reward/{label}", correlation(values, batch.values, batch.groups))
    for a, b in combinations(sorted(batch.parts), 2):
        first, second = batch.parts[a], batch.parts[b]
        view.note(f"correlation/{a}~{b}", correlation(first, second, batch.groups))
        view.note(f"disagreement/{a}~{b}", disagreement(first, second, batch.groups))
        yield from _pair_findings(view, a, b, np.abs(standardised(first) - standardised(second)))


def _pair_findings(view: View, a: str, b: str, badness: Array) -> Iterator[Finding]:
    config, history, pair = view.config, view.history, f"{a}~{b}"
    share = history.mean(f"disagreement/{pair}")
    ought_to_agree = {a, b} <= set(config.agreeing)
    if ought_to_agree and share is not None and config.disagreement and share >= config.disagreement:
        yield Finding(
            name="disagreement",
            subject=pair,
            value=share,
            threshold=config.disagreement,
            message=f"{a} and {b} order {share:.0%} of pairs oppositely (mean of {config.window} updates)",
            badness=badness,
        )
    first, mean = history.first_mean(f"correlation/{pair}"), history.mean(f"correlation/{pair}")
    if first is None or mean is None or config.correlation_fall is None:
        return
    if first - mean >= config.correlation_fall:
        yield Finding(
            name="correlation_fall",
            subject=pair,
            value=first - mean,
            threshold=config.correlation_fall,
            message=f"{a} and {b} part: their correlation was {first:.2f} at first and is {mean:.2f}",
            badness=badness,
        )


def trusted(view: View) -> Iterator[Finding]:
    """The reward holds or rises, and what is trusted falls."""
    batch, config, history = view.batch, view.config, view.history
    history.push("mean", float(np.mean(batch.values)))
    for label in config.trusted:
        values = batch.parts.get(label, np.zeros(0))
        known = values[np.isfinite(values)]
        if len(known) == 0:
            continue
        history.push(f"mean/{label}", float(known.mean()))
        history.push(f"std/{label}", float(known.std()))
        fall, has_reward_held = _fall(history, label)
        if fall is None:
            continue
        view.metrics[f"watch/trusted_fall/{label}"] = fall
        if config.trusted_fall is not None and fall >= config.trusted_fall and has_reward_held:
            yield Finding(
                name="trusted_fall",
                subject=label,
                value=fall,
                threshold=config.trusted_fall,
                message=f"{label} has fallen by {fall:.2f} standard deviations from its best, the reward not",
                badness=standardised(batch.values) - standardised(values),
            )


def _fall(history: History, label: str) -> tuple[float | None, bool]:
    """How far a component is below its best window, in standard deviations of its samples, and whether the
    reward is no lower than then."""
    mean, std, reward = history.mean(f"mean/{label}"), history.mean(f"std/{label}"), history.mean("mean")
    if mean is None or std is None or reward is None:
        return None, False
    best, reward_then = history.peaks.get(label, (mean, reward))
    if mean >= best:
        best, reward_then = mean, reward
    history.peaks[label] = best, reward_then
    return (best - mean) / std if std > 0.0 else 0.0, reward >= reward_then


def constant(view: View) -> Iterator[Finding]:
    """A component that says the same of everything, for many updates."""
    limit, counts = view.config.constant_updates, view.history.num_constant
    for label, values in view.batch.parts.items():
        known = values[np.isfinite(values)]
        is_constant = len(known) > 0 and bool((known == known[0]).all())
        counts[label] = counts.get(label, 0) + 1 if is_constant else 0
        view.metrics[f"watch/constant_updates/{label}"] = float(counts[label])
        if limit is not None and counts[label] >= limit:
            yield Finding(
                name="constant_updates",
                subject=label,
                value=float(counts[label]),
                threshold=float(limit),
                message=f"{label} is {known[0]:g} everywhere for {counts[label]} updates: it is broken, "
                "or has nothing left to say",
                badness=view.batch.values,
            )


CHECKS: tuple[Callable[[View], Iterator[Finding]], ...] = (length, duplicates, pairs, trusted, constant)
