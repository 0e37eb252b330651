"""What the watch remembers from update to update. JSON-able, for checkpoints."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np


class History:
    """The newest values of any number of named series, and the mean of the first window of each."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._values: dict[str, deque[float]] = {}
        self._first: dict[str, float] = {}
        self._missing: set[str] = set()
        """Series without a value in this update; every update says it anew."""
        self.peaks: dict[str, tuple[float, float]] = {}
        """By trusted component: its best windowed mean, and that of the reward at the same time."""
        self.num_constant: dict[str, int] = {}
        """By component: updates in a row in which it had one value everywhere."""
        self.last_told: dict[str, int] = {}
        """By alarm and subject: the version at which it was told."""
        self.num_alarms = 0

    def push(self, name: str, value: float) -> None:
        """One value per update; nan, which is no value, is passed over, and nothing is said of the series."""
        self._missing.discard(name)
        if not np.isfinite(value):
            self._missing.add(name)
            return
        values = self._values.setdefault(name, deque(maxlen=self._window))
        values.append(value)
        if len(values) == self._window:
            self._first.setdefault(name, float(np.mean(values)))

    def mean(self, name: str) -> float | None:
        """Over the window; None until that is full, and where the newest update has no value."""
        return float(np.mean(self._values[name])) if self._is_full(name) else None

    def first_mean(self, name: str) -> float | None:
        """Over the first window; None until that is full."""
        return self._first.get(name)

    def change(self, name: str) -> float | None:
        """By what share the second half of the window is above the first; None until the window is full.

        An odd window leaves out its middle.
        """
        if not self._is_full(name):
            return None
        values, half = list(self._values[name]), self._window // 2
        before, after = float(np.mean(values[:half])), float(np.mean(values[-half:]))
        return after / before - 1.0 if before else None

    def state_dict(self) -> dict[str, Any]:
        # Lists of pairs: labels may hold characters that keys of a state may not.
        return {
            "values": [[name, list(values)] for name, values in self._values.items()],
            "first": list(map(list, self._first.items())),
            "peaks": [[name, list(peak)] for name, peak in self.peaks.items()],
            "num_constant": list(map(list, self.num_constant.items())),
            "last_told": list(map(list, self.last_told.items())),
            "num_alarms": self.num_alarms,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._values = {name: deque(values, maxlen=self._window) for name, values in state["values"]}
        self._first = dict(state["first"])
        self.peaks = {name: (best, reward) for name, (best, reward) in state["peaks"]}
        self.num_constant = dict(state["num_constant"])
        self.last_told = dict(state["last_told"])
        self.num_alarms = state["num_alarms"]

    def _is_full(self, name: str) -> bool:
        return name not in self._missing and len(self._values.get(name, ())) == self._window
