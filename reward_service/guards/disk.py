"""Scores on disk, in diskcache: the part of a cache that outlives the service and may be shared.

Used by the cache. Entries are JSON texts: what lies in the folder can be wrong or missing, it can not be run.
"""

import asyncio
import importlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from antiphon.errors import UserError
from reward_service.types import Score, Status

PATIENCE_S = 1.0
"""How long a look-up may take; beyond that, asking the component is the better bet."""


class Disk:
    """A folder of scores, written and read in a thread of its own so that the event loop never waits for a
    disk."""

    def __init__(self, path: str, max_bytes: int) -> None:
        """
        Raises:
            UserError: diskcache is not installed, or there can be no cache at `path`.
        """
        self.num_errors = 0
        """Look-ups and writes that failed; nothing else comes of them."""
        # sqlite wants a connection used and closed in the thread that made it.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="score-cache")
        self._files = self._thread.submit(_open, path, max_bytes).result()

    async def find(self, keys: Sequence[str], timeout_s: float) -> dict[str, Score]:
        """The scores that are there, by key; none where the disk does not answer in time."""
        reading = asyncio.get_running_loop().run_in_executor(self._thread, self._read, keys)
        try:
            return await asyncio.wait_for(reading, min(timeout_s, PATIENCE_S))
        except TimeoutError:
            self.num_errors += 1
            return {}

    def store(self, scores: Mapping[str, Score]) -> None:
        """Scores that the thread will write when it comes to it."""
        self._thread.submit(self._write, scores)

    def close(self) -> None:
        """Waits until everything is written."""
        self._thread.submit(self._files.close)
        self._thread.shutdown(wait=True)

    def _read(self, keys: Sequence[str]) -> dict[str, Score]:
        found: dict[str, Score] = {}
        try:
            for key in keys:
                if (text := self._files.get(key)) is not None:
                    found[key] = _from_json(text)
        except Exception:  # The folder is untrusted, and a cache is no reason to fail.
            self.num_errors += 1
        return found

    def _write(self, scores: Mapping[str, Score]) -> None:
        try:
            with self._files.transact():
                for key, score in scores.items():
                    self._files.set(key, _to_json(score))
        except Exception:  # A full or locked disk is no reason to fail.
            self.num_errors += 1


def _to_json(score: Score) -> str:
    return json.dumps([score.value, dict(score.parts)])


def _from_json(text: str) -> Score:
    value, parts = json.loads(text)
    return Score(id="", status=Status.OK, value=float(value), parts=parts)


def _open(path: str, max_bytes: int) -> Any:
    """The files behind `path`."""
    try:
        diskcache = importlib.import_module("diskcache")
    except ModuleNotFoundError:
        raise UserError(
            "a cache on disk needs a package that is not installed",
            remedy="pip install 'antiphon[rewards]', or leave cache.path out",
        ) from None

    class Texts(diskcache.Disk):  # type: ignore[name-defined]
        """diskcache would unpickle what lies in the folder; a pickle can run anything."""

        def fetch(self, mode: int, filename: str, value: object, read: bool) -> object:
            if mode == diskcache.core.MODE_PICKLE:
                raise ValueError(f"a pickle in the cache at {path}")
            return super().fetch(mode, filename, value, read)

    try:
        return diskcache.Cache(
            path,
            timeout=PATIENCE_S,
            disk=Texts,
            size_limit=max_bytes,
            eviction_policy="least-recently-stored",
        )
    except (OSError, sqlite3.Error, diskcache.Timeout) as error:
        raise UserError(
            f"cache.path is {path!r}, where there can be no cache: {error}",
            remedy="name a folder that can be written, and that holds nothing else",
        ) from error
