"""Which attempt at a run may write into its directory: the newest one, and no other.

    <run dir>/attempts/000001.json  000002.json  .lock

Attempts are numbered; a new one takes the run over by making the file of the next number. An older attempt
that still lives somewhere (a node that was believed lost, a job that was started twice) finds the newer file
before its next write, and ends. Taking over and writing take turns by a lock on `.lock`, so that nothing of
the older attempt appears after the newer one has begun to read. Where a file system has no locks, only the
look before each write remains. Used by the driver and by the learner, which may be on another machine; knows
nothing of what is written.
"""

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ATTEMPTS = "attempts"
LOCK = ".lock"
JOB_VARIABLE = "ANTIPHON_JOB"
"""Holds the submission id where an attempt is a submitted job."""
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
POLL_S = 0.05


class Superseded(Exception):
    """A newer attempt has taken the run over: this one must not write any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right of one attempt to write. Travels to other processes and machines."""

    folder: Path
    """`attempts/` in the run directory."""
    number: int
    deadline_s: float = 120.0
    """How long to wait for the lock; it is held as long as one file takes to be written."""

    @classmethod
    def next_of(cls, run_dir: Path) -> "Lease":
        """The next attempt at the run in this directory. Nothing is taken over before `claim`."""
        folder = run_dir.resolve() / ATTEMPTS
        return cls(folder=folder, number=_newest(folder) + 1)

    def claim(self) -> None:
        """Take the run over: from here on older attempts write nothing.

        Raises:
            Superseded: another attempt claimed this number first.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "attempt": self.number,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "job": os.environ.get(JOB_VARIABLE),
            "began": time.time(),
        }
        with self._locked():
            self.check()
            try:
                with self._path(self.number).open("x") as file:
                    file.write(json.dumps(facts) + "\n")
            except FileExistsError:
                raise Superseded(self._told(self.number)) from None

    def give_back(self) -> None:
        """Undo `claim`, for an attempt that was refused before it read or wrote anything: the one before may
        go on. Nothing happens where a newer one has begun."""
        with self._locked():
            if self.is_current():
                self._path(self.number).unlink(missing_ok=True)

    def end(self, status: str) -> None:
        """Note how this attempt ended, for whoever takes over."""
        facts = {**self.facts(self.number), "ended": time.time(), "status": status}
        self._path(self.number).write_text(json.dumps(facts) + "\n")

    def facts(self, number: int) -> dict[str, Any]:
        """What an attempt said of itself; empty where it said nothing that can be read."""
        try:
            found = json.loads(self._path(number).read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def is_current(self) -> bool:
        """Whether no newer attempt has begun."""
        return _newest(self.folder) <= self.number

    def check(self) -> None:
        """
        Raises:
            Superseded: a newer attempt has begun.
        """
        newest = _newest(self.folder)
        if newest > self.number:
            raise Superseded(self._told(newest))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around everything that this attempt writes where others read. Not to be nested.

        Raises:
            Superseded: a newer attempt has begun; nothing may be written.
            TimeoutError: another attempt holds the lock and does not let go of it.
        """
        with self._locked():
            self.check()
            yield

    def tell(self, number: int) -> str:
        """An attempt in words: its number, and where it runs."""
        facts = self.facts(number)
        job = f", job {facts['job']}" if facts.get("job") else ""
        place = f" (host {facts['host']}, process {facts['pid']}{job})" if facts else ""
        return f"attempt {number}{place}"

    def _told(self, newer: int) -> str:
        return f"{self.tell(newer)} has taken the run over: attempt {self.number} writes nothing more"

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.json"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / LOCK).open("a") as file:
            _lock(file, self.deadline_s)
            yield  # Closing the file releases the lock, and so does the end of the process.


def _newest(folder: Path) -> int:
    """The highest number of an attempt; 0 where there is none.

    The folder is listed, not asked for one name: a network file system answers the latter from its memory.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return 0
    return max((int(n[:-5]) for n in names if n.endswith(".json") and n[:-5].isdigit()), default=0)


def _lock(file: IO[str], deadline_s: float) -> None:
    until_s = time.monotonic() + deadline_s
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until_s:
                raise TimeoutError(
                    f"another attempt holds {file.name} for more than {deadline_s:.0f} s"
                ) from None
            time.sleep(POLL_S)
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            return None
