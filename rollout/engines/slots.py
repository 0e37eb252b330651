"""What each slot of the torch engine is doing: one row per completion under way, one column per fact.

The columns are tensors, so that a step costs the same few operations for one row or a hundred; only the start
and the end of a completion are told in Python. Knows nothing of models and caches.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from rollout.engines.guidance import Controls
from rollout.engines.sampling import uniforms
from rollout.types import Completion, Request, several

NO_TOKEN = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A request in a slot."""

    ticket: int
    request: Request
    stop_token_ids: tuple[int, ...]

    @property
    def is_plain(self) -> bool:
        """As `Controls.is_plain`, of one row."""
        s = self.request.sampling
        return s.top_k == 0 and s.top_p >= 1 and s.beta == 0 and s.epsilon == 0 and s.temperature > 0


class SlotTable:
    """Rows 0..num_rows-1 are in use, save for holes where completions have ended.

    `start` fills the holes first; `compact` moves the last rows into those that are left.
    """

    def __init__(self, num_slots: int, device: torch.device) -> None:
        self.num_slots = num_slots
        self.num_rows = 0
        self._running: list[Running | None] = [None] * num_slots
        self._holes: list[int] = []
        self._reach: int | None = None
        self._columns: dict[str, Tensor] = {}
        for name, dtype in _ONE_EACH.items():
            self._columns[name] = torch.zeros(num_slots, dtype=dtype, device=device)
        for name, dtype in _MANY_EACH.items():
            self._columns[name] = torch.zeros(num_slots, 0, dtype=dtype, device=device)

    def __getitem__(self, column: str) -> Tensor:
        return self._columns[column]

    @property
    def num_running(self) -> int:
        return self.num_rows - len(self._holes)

    @property
    def num_free(self) -> int:
        return self.num_slots - self.num_running

    @property
    def is_plain(self) -> bool:
        """Whether all rows draw from the whole distribution of the model, at temperatures above 0."""
        return all(running.is_plain for running in self._running if running is not None)

    @property
    def reach(self) -> int:
        """One more than the largest position in the table; asked of the device only where rows have come or
        gone."""
        if self._reach is None:
            self._reach = int(self["position"][: self.num_rows].max()) + 1
        return self._reach

    def advance(self) -> None:
        """The cache holds one position more of each row."""
        self["position"][: self.num_rows] += 1
        self._reach = None if self._reach is None else self._reach + 1

    def rows(self) -> list[int]:
        """The numbers of the occupied rows."""
        return [row for row in range(self.num_rows) if self._running[row] is not None]

    def sequence(self, row: int) -> tuple[int, ...]:
        """What the cache must hold for this row: the prompt and all drawn tokens but the last."""
        running = self._running[row]
        assert running is not None
        num_held = max(int(self["num_drawn"][row]) - 1, 0)
        return running.request.token_ids + tuple(self["token_ids"][row, :num_held].tolist())

    def start(self, entries: Sequence[Running]) -> list[int]:
        """Gives each entry a free row; there must be enough."""
        rows = [*self._holes, *range(self.num_rows, self.num_slots)][: len(entries)]
        self._holes = self._holes[len(entries) :]
        self.num_rows = max(self.num_rows, rows[-1] + 1)
        for row, entry in zip(rows, entries, strict=True):
            self._running[row] = entry
        self._reach = None
        samplings = [entry.request.sampling for entry in entries]
        self._write(rows, "position", [len(entry.request.token_ids) for entry in entries])
        self._write(rows, "num_drawn", [0] * len(entries))
        self._write(rows, "max_new_tokens", [s.max_new_tokens for s in samplings])
        self._write(rows, "temperature", [s.temperature for s in samplings])
        self._write(rows, "top_k", [s.top_k for s in samplings])
        self._write(rows, "top_p", [s.top_p for s in samplings])
        self._write(rows, "beta", [s.beta for s in samplings])
        self._write(rows, "epsilon", [s.epsilon for s in samplings])
        self._write_rows(rows, "stops", [entry.stop_token_ids for entry in entries], NO_TOKEN)
        draws = [uniforms(entry.request.seed, entry.request.sampling.max_new_tokens) for entry in entries]
        self._write_rows(rows, "uniform", draws, 0.0)
        self._widen("token_ids", self["uniform"].shape[1])
        self._widen("logprobs", self["uniform"].shape[1])
        self._widen("versions", self["uniform"].shape[1])
        return rows

    def controls(self, rows: Tensor) -> Controls:
        """How these rows draw."""
        return Controls(**{field.name: self[field.name][rows] for field in fields(Controls)})

    def next_uniform(self, rows: Tensor) -> Tensor:
        """[n] the random numbers that pick the next token of these rows."""
        return self["uniform"][rows, self["num_drawn"][rows]]

    def record(
        self, rows: Tensor, token: Tensor, logprob: Tensor, policy_version: int
    ) -> tuple[Tensor, Tensor]:
        """Adds one token that this version drew to each of these rows.

        Returns:
            Which of them have ended, and which of them by a stop token: two masks like `rows`.
        """
        drawn = self["num_drawn"][rows]
        self["token_ids"][rows, drawn] = token
        self["logprobs"][rows, drawn] = logprob
        self["versions"][rows, drawn] = policy_version
        self["last_token"][rows] = token
        self["num_drawn"][rows] = drawn + 1
        has_stopped = (self["stops"][rows] == token[:, None]).any(1)
        return has_stopped | (drawn + 1 >= self["max_new_tokens"][rows]), has_stopped

    def end(self, row: int, has_stopped: bool) -> tuple[int, Completion]:
        """Frees the row.

        Returns:
            The ticket and what was drawn.
        """
        running = self._running[row]
        assert running is not None
        self._running[row] = self._reach = None
        self._holes = sorted([*self._holes, row])
        num_drawn = int(self["num_drawn"][row])
        versions = self["versions"][row, :num_drawn].tolist()
        return running.ticket, Completion(
            token_ids=tuple(self["token_ids"][row, :num_drawn].tolist()),
            logprobs=tuple(self["logprobs"][row, :num_drawn].tolist()),
            finish_reason="stop" if has_stopped else "length",
            policy_version_min=min(versions),
            policy_version_max=max(versions),
            policy_versions=several(versions),
        )

    def compact(self) -> tuple[list[int], list[int]]:
        """Closes the holes by moving the last rows into them.

        Returns:
            Which rows went where: sources and targets.
        """
        num_kept = self.num_running
        targets = [row for row in self._holes if row < num_kept]
        sources = [row for row in range(num_kept, self.num_rows) if self._running[row] is not None]
        if targets:
            for column in self._columns.values():
                column[targets] = column[sources]
        for source, target in zip(sources, targets, strict=True):
            self._running[target], self._running[source] = self._running[source], None
        self.num_rows, self._holes = num_kept, []
        return sources, targets

    def clear(self) -> None:
        self.num_rows, self._holes = 0, []
        self._running = [None] * self.num_slots

    def _write(self, rows: list[int], name: str, values: Sequence[float]) -> None:
        column = self[name]
        column[rows] = torch.tensor(values, dtype=column.dtype, device=column.device)

    def _write_rows(
        self, rows: list[int], name: str, values: Sequence[Sequence[float] | np.ndarray], fill: float
    ) -> None:
        self._widen(name, max(len(value) for value in values))
        column = self[name]
        block = np.full((len(values), column.shape[1]), fill)
        for line, value in zip(block, values, strict=True):
            line[: len(value)] = value
        column[rows] = torch.as_tensor(block, dtype=column.dtype, device=column.device)

    def _widen(self, name: str, width: int) -> None:
        column = self[name]
        if width > column.shape[1]:
            wider = column.new_full((self.num_slots, width), NO_TOKEN)
            wider[:, : column.shape[1]] = column
            self._columns[name] = wider


_ONE_EACH = {
    "position": torch.int64,  # where the last token stands, which the cache does not hold yet
    "last_token": torch.int64,
    "num_drawn": torch.int64,
    "max_new_tokens": torch.int64,
    "temperature": torch.float32,
    "top_k": torch.int64,
    "top_p": torch.float32,
    "beta": torch.float32,
    "epsilon": torch.float32,
}
_MANY_EACH = {
    "stops": torch.int64,  # filled up with NO_TOKEN
    "uniform": torch.float64,  # one number per token to come
    "token_ids": torch.int64,
    "logprobs": torch.float32,
    "versions": torch.int64,
}
