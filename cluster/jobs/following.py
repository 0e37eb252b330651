"""Follows a job to its end: waits until it starts, shows its log, and says how it ended.

The connection may break and come back, as port forwarding does: what was shown is not shown again.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from antiphon.errors import UserError
from cluster.jobs.last_word import LastWord
from cluster.jobs.wanted import ENDED, FAILED, PENDING, STOPPED, SUCCEEDED

POLL_S = 1.0
LOST_S = 300.0
"""How long a connection may stay away before it is given up."""
TRUSTED_S = 600.0
"""After which the log is asked for anew: a connection that died silently looks like a log that rests."""
STOPPED_CODE = 130
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a job ended."""

    status: str
    """Ray's."""
    exit_code: int
    """The driver's, or 130 for a stopped job, or 1 where it had no time to tell."""
    message: str
    """Ray's, for a job whose driver told nothing."""
    last_word: LastWord | None


class Follower:
    """One job of a cluster, seen from outside."""

    def __init__(
        self,
        client: Any,
        submission_id: str,
        say: Say,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        Args:
            client: a JobSubmissionClient.
            say: takes a line of the log.
        """
        self._client, self._id, self._say = client, submission_id, say
        self._clock, self._sleep = clock, sleep
        self._num_shown = 0
        self._rest = ""
        self._last_word: LastWord | None = None

    def follow(self, start_deadline_s: float) -> Ended:
        """To the end of the job.

        Raises:
            UserError: it did not start before the deadline, and was stopped; or the cluster is gone.
        """
        self._await_start(start_deadline_s)
        return self.await_end()

    def await_end(self, deadline_s: float = float("inf")) -> Ended:
        """Show the log until the job has ended.

        Raises:
            UserError: it did not end before the deadline, or the cluster is gone.
        """
        until_s = self._clock() + deadline_s
        while (status := self._status()) not in ENDED:
            if self._clock() > until_s:
                raise UserError(
                    f"the job {self._id} is still {status} after {deadline_s:.0f} s",
                    remedy="look at its log; what it saved is in the checkpoints of the run directory",
                )
            asyncio.run(self._show(until_s))
            self._sleep(POLL_S)
        self._show_rest()
        return self._ended(status)

    def _await_start(self, deadline_s: float) -> None:
        until_s = self._clock() + deadline_s
        while self._status() == PENDING:
            if self._clock() > until_s:
                message = self._client.get_job_info(self._id).message or "Ray does not say why"
                self._client.stop_job(self._id)
                raise UserError(
                    f"the job {self._id} did not start within {deadline_s:.0f} s and was stopped: {message}",
                    remedy="look at the cluster's dashboard; --start-deadline-s for a cluster that is slow",
                )
            self._sleep(POLL_S)

    def _status(self) -> str:
        """Ray's, over a connection that may be away for a while."""
        until_s = self._clock() + LOST_S
        while True:
            try:
                return str(self._client.get_job_status(self._id).value)
            except (OSError, RuntimeError) as error:
                if self._clock() > until_s:
                    raise UserError(
                        f"the cluster does not answer any more: {str(error).splitlines()[0]}",
                        remedy="the job goes on, if the cluster does: submit it again to follow it",
                    ) from error
                self._sleep(POLL_S)

    async def _show(self, until_s: float) -> None:
        """The log as it grows, until it ends, the connection breaks, or it is time."""
        from aiohttp import ClientError

        num_seen = 0
        left_s = max(0.0, min(until_s - self._clock(), TRUSTED_S))
        # Whoever called looks whether the job goes on.
        with suppress(OSError, RuntimeError, TimeoutError, ClientError):
            async with asyncio.timeout(left_s):
                async for text in self._client.tail_job_logs(self._id):
                    num_seen = self._take(text, num_seen)

    def _take(self, text: str, num_seen: int) -> int:
        """Show of `text`, which begins at character `num_seen` of the log, what was not shown before."""
        new = text[max(0, self._num_shown - num_seen) :]
        self._num_shown = max(self._num_shown, num_seen + len(text))
        *lines, self._rest = (self._rest + new).split("\n")
        for line in lines:
            self._line(line)
        return num_seen + len(text)

    def _show_rest(self) -> None:
        """What the log still had to say when it was last looked at."""
        with suppress(OSError, RuntimeError):  # The log may have gone away with its node.
            self._take(self._client.get_job_logs(self._id), 0)
        if self._rest:
            self._line(self._rest)
            self._rest = ""

    def _line(self, line: str) -> None:
        word = LastWord.read(line)
        if word is None:
            self._say(line)
        else:
            self._last_word = word

    def _ended(self, status: str) -> Ended:
        info, word = self._client.get_job_info(self._id), self._last_word
        code = word.exit_code if word else info.driver_exit_code
        if code is None:
            code = {SUCCEEDED: 0}.get(status, 1)
        return Ended(status=status, exit_code=code, message=info.message or "", last_word=word)


def report(ended: Ended) -> list[str]:
    """How the job ended, in lines for a person."""
    word = ended.last_word
    if word is None:
        killed = "was killed before it could say how far it came" if ended.status == STOPPED else "ended"
        return [f"the job {killed}; exit code {ended.exit_code}", *ended.message.splitlines()[:1]]
    lines = [f"{ended.status.lower()}, exit code {ended.exit_code}"]
    if word.status:
        lines.append(f"attempt {word.attempt} of the run: {word.status} at version {word.version}")
    if word.first_cause:
        lines.append(f"first cause: {word.first_cause}")
    if word.checkpoint and (ended.exit_code or ended.status in (STOPPED, FAILED)):
        lines.append(f"newest checkpoint: {word.checkpoint}")
    return lines
