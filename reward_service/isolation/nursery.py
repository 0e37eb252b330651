"""The pool's end of one zygote: starts it, asks it for workers, and knows when it may be tried again.

Belongs to the thread of the pool, because the kernel ends a zygote with the thread that started it. It knows
nothing of samples.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from antiphon.errors import UserError
from reward_service.isolation.config import IsolationConfig

ZYGOTE = "reward_service.isolation.zygote"
FIRST_BACKOFF_S = 1.0
"""The pause after a start that failed; it doubles with each one that follows."""
MAX_BACKOFF_S = 60.0
GRACE_S = 2.0
"""How long a zygote may clean up when the pool is closed."""
MAX_READ_BYTES = 65536
STDERR = 2
"""The file descriptor itself: Ray replaces sys.stderr."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""The workers share the CPUs among themselves already, and thread pools do not survive a fork."""


class Nursery:
    """A zygote, or the place for one."""

    def __init__(self, label: str, name: str, options: Mapping[str, Any], config: IsolationConfig) -> None:
        self.label = label
        self.is_ready = False
        """Workers can be had."""
        self.failure = ""
        """Why the newest start failed; empty where it did not."""
        self.control: socket.socket | None = None
        """Readable when the zygote has something to tell; None where there is no zygote."""
        self.started: Future[None] = Future()
        """Done when the component was loaded for the first time; a UserError where that failed."""
        self._order = {
            "label": label,
            "name": name,
            "options": dict(options),
            "isolation": config.model_dump(mode="json"),
        }
        self._start_deadline_s = config.start_deadline_s
        self._process: subprocess.Popen[bytes] | None = None
        self._lines = b""
        self._num_failures = 0
        self.retry_at = 0.0
        """When a start may be tried; until then samples need not wait."""
        self.start_deadline = float("inf")
        """When a zygote that is being started is given up."""

    def launch(self, now: float) -> socket.socket:
        """Starts the zygote; `is_ready` follows when the component is loaded. Returns the control socket.

        Raises:
            OSError: the machine has no room for another process.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs, os.fdopen(os.memfd_create("order"), "r+") as order:
            json.dump(self._order, order, default=str)
            order.flush()
            order.seek(0)
            fd, pool = str(theirs.fileno()), str(os.getpid())
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-u", "-m", ZYGOTE, fd, pool, self.label],
                stdin=order,
                stdout=STDERR,
                pass_fds=[theirs.fileno()],
                env=_environment(),
                start_new_session=True,
            )
        self.control, self._lines = ours, b""
        self.start_deadline = now + self._start_deadline_s
        return ours

    def fork(self, number: int) -> socket.socket:
        """Asks for a worker; returns the pool's end of its channel, which may be written to at once.

        Raises:
            OSError: the service has too many files open.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            self._say({"fork": number}, [theirs.fileno()])
        return ours

    def kill(self, number: int) -> None:
        """Asks for the end of a worker and of all that it started."""
        self._say({"kill": number}, [])

    def _say(self, command: dict[str, int], fds: list[int]) -> None:
        """One line to the zygote. One that does not even read commands is no zygote any more."""
        assert self.control is not None
        line = json.dumps(command).encode() + b"\n"
        try:
            num_sent = socket.send_fds(self.control, [line], fds)
        except OSError:
            num_sent = 0
        if num_sent < len(line) and self._process is not None:
            self._kill(self._process)

    def messages(self) -> list[dict[str, Any]]:
        """What the zygote has told since.

        Raises:
            EOFError: it has ended.
        """
        if self.control is None:
            return []
        try:
            data = self.control.recv(MAX_READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            raise EOFError
        *lines, self._lines = (self._lines + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def note_ready(self) -> None:
        self.is_ready, self.failure = True, ""
        self.start_deadline = float("inf")
        if not self.started.done():
            self.started.set_result(None)

    def note_health(self) -> None:
        """A sample was scored: what is lost from here on is worth an immediate start."""
        self._num_failures = 0

    def note_failure(self, now: float, problem: str, remedy: str) -> None:
        """The zygote cannot do its work, or is gone: ends it, and sets when the next may be tried."""
        code = self._end()
        pause_s = 0.0
        if not self.is_ready or self._num_failures:
            pause_s = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2**self._num_failures)
        self._num_failures += 1
        self.is_ready, self.retry_at = False, now + pause_s
        self.failure = problem or f"the process that loads it {how_it_ended(code)}"
        if not self.started.done():
            self.started.set_exception(UserError(self.failure, remedy=remedy))

    def _end(self) -> int:
        """Kills the zygote; its exit code, which is the first cause where it was ending already."""
        self.start_deadline = float("inf")
        if self.control is None or self._process is None:
            return 0
        self.control.close()
        self.control = None
        self._kill(self._process)
        return self._process.wait()

    @staticmethod
    def _kill(process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Ends the zygote and its workers, which it kills when it sees the control socket closed."""
        if self.control is None or self._process is None:
            return
        if not self.is_ready:
            self._kill(self._process)
        self.control.close()
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._kill(self._process)
            self._process.wait()
        self.control = None


def _environment() -> dict[str, str]:
    """That of this process, in which modules are found where they are found here."""
    path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    return {**os.environ, **ONE_THREAD, "PYTHONPATH": path}


def how_it_ended(code: int) -> str:
    """An exit code in words; minus the number of the signal where a process died by one."""
    if code >= 0:
        return f"ended by itself with exit code {code}"
    try:
        return f"died by {signal.Signals(-code).name}"
    except ValueError:  # Real-time signals have no names.
        return f"died by signal {-code}"
