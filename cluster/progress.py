"""What a person sees while a run goes on: a live bar in a terminal, plain lines elsewhere."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from cluster.evaluation import Measurement

SHOWN = {
    "reward/mean": "reward",
    "loss/q": "q loss",
    "policy/kl": "kl",
    "policy/entropy": "entropy",
    "policy/clip_fraction": "clip",
    "rollout/completion_tokens": "tokens",
    "rollout/lag_mean": "lag",
}
"""Metric -> its short name on the line of an update."""
EVENTS = {
    "paused": "paused: {cause}; trying again every {probe_every_s:g} s, for {deadline_s:g} s at most",
    "resumed": "scoring works again after {paused_s:.0f} s",
    "scaled": "{before} -> {actors} rollout actors: {reason}",
    "alarm": "alarm: {message} (examples are in events.jsonl)",
}
"""Event of the loop -> its line; other events are for events.jsonl alone."""


class Progress:
    """The display of one run."""

    def __init__(self, console: Console, name: str, num_updates: int) -> None:
        self._console = console
        self._name = name
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(name, total=num_updates, numbers="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def tell(self, what: str, values: Mapping[str, float]) -> None:
        """A line of numbers."""
        self.say(f"{what}: " + "  ".join(f"{name} {value:.4g}" for name, value in values.items()))

    def event(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Something that happened in the loop, if a person who watches should know of it."""
        if kind in EVENTS:
            self.say(EVENTS[kind].format(**facts))

    def update(self, version: int, values: Mapping[str, float]) -> None:
        """The numbers of an update: on the bar in a terminal, as a line elsewhere."""
        numbers = "  ".join(f"{short} {values[name]:.3g}" for name, short in SHOWN.items() if name in values)
        self._bar.update(self._task, completed=version, numbers=numbers)
        if not self._console.is_terminal:
            self.say(f"update {version}  {numbers}")

    def measurement(self, version: int, measurement: Measurement) -> None:
        """A measurement on the held-out prompts."""
        failed = f", {measurement.num_failed} failed" if measurement.num_failed else ""
        self.say(
            f"held-out {measurement.metric} at version {version}: {measurement.value:.4f} "
            f"(n {measurement.n}{failed})"
        )
