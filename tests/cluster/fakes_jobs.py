"""A cluster's job door in memory, for the tests of cluster/jobs."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


@dataclass
class Job:
    """What the cluster holds of a job."""

    submission_id: str
    metadata: Mapping[str, str]
    request: Mapping[str, Any] = field(default_factory=dict)
    statuses: list[str] = field(default_factory=lambda: ["RUNNING"])
    """What it says each time that it is asked; the last one stays."""
    log: str = ""
    message: str | None = None
    exit_code: int | None = None


@dataclass
class FakeCluster:
    """Speaks as Ray's JobSubmissionClient does."""

    jobs: dict[str, Job] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    """Jobs that a list leaves out once: somebody else submits them just after it was made."""
    stopped: list[str] = field(default_factory=list)
    pieces: list[Sequence[str | Exception]] = field(default_factory=list)
    """What each connection to a log brings; an error breaks it."""
    num_away: int = 0
    """Times that nobody answers when asked for a status."""

    def list_jobs(self) -> list[Any]:
        shown = [job for job in self.jobs.values() if job.submission_id not in self.hidden]
        self.hidden.clear()
        return [
            SimpleNamespace(metadata=job.metadata, status=SimpleNamespace(value=job.statuses[0]))
            for job in shown
        ]

    def submit_job(self, *, submission_id: str, metadata: Mapping[str, str], **request: Any) -> str:
        if submission_id in self.jobs:
            raise RuntimeError(f"Request failed: job with submission_id {submission_id} already exists")
        self.jobs[submission_id] = Job(submission_id, metadata, request)
        return submission_id

    def get_job_status(self, submission_id: str) -> Any:
        if self.num_away:
            self.num_away -= 1
            raise ConnectionError("nobody answers")
        statuses = self.jobs[submission_id].statuses
        return SimpleNamespace(value=statuses.pop(0) if len(statuses) > 1 else statuses[0])

    def get_job_info(self, submission_id: str) -> Any:
        job = self.jobs[submission_id]
        return SimpleNamespace(message=job.message, driver_exit_code=job.exit_code)

    def get_job_logs(self, submission_id: str) -> str:
        return self.jobs[submission_id].log

    async def tail_job_logs(self, submission_id: str) -> AsyncIterator[str]:
        for piece in self.pieces.pop(0) if self.pieces else []:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def stop_job(self, submission_id: str) -> bool:
        self.stopped.append(submission_id)
        self.jobs[submission_id].statuses = ["STOPPED"]
        return True
