"""Submits a run under a name, once: whoever submits the same again gets the job that is there.

Called by the command line; the client may be a fake.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from antiphon.errors import UserError
from cluster.jobs.following import Say
from cluster.jobs.upload import Upload
from cluster.jobs.wanted import ENDED, SUCCEEDED, Known, Wanted, decide, newest, submission_id

IS_TAKEN = "already exists"
"""What Ray says of a submission id that was used before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """The job that stands for what was wanted."""

    submission_id: str
    number: int
    """Of the attempt among those of this cluster."""
    is_new: bool
    is_done: bool
    """It had succeeded before."""


def submit(
    client: Any, wanted: Wanted, upload: Upload, check_room: Callable[[], None], say: Say
) -> Submitted:
    """Find the job that is wanted, or submit the next attempt.

    Args:
        client: a JobSubmissionClient.
        check_room: raises where the cluster cannot hold the run.

    Raises:
        UserError: the name stands for another run, or the cluster cannot hold this one.
    """
    answer = decide(newest(known_to(client), wanted.name), wanted)
    if isinstance(answer, Known):
        return _found(answer, say)
    check_room()
    say(f"uploading {upload.folder}: {upload.describe()}")
    try:
        job = client.submit_job(
            entrypoint=wanted.entrypoint,
            submission_id=_id(wanted, answer),
            metadata=wanted.metadata(answer),
            runtime_env={
                "working_dir": str(upload.folder),
                "excludes": list(upload.excludes),
                "env_vars": wanted.variables(answer),
            },
        )
    except RuntimeError as error:
        if IS_TAKEN not in str(error):
            raise
        return _taken(client, wanted, say)
    say(f"submitted {job}: the run directory is {wanted.run_dir}")
    return Submitted(submission_id=job, number=answer, is_new=True, is_done=False)


def known_to(client: Any) -> Iterable[Known]:
    """The jobs of ours that the cluster knows."""
    for job in client.list_jobs():
        metadata: Mapping[str, str] = job.metadata or {}
        if known := Known.of(str(job.status.value), metadata):
            yield known


def stop(client: Any, name: str) -> Known:
    """Ask the newest job under the name to end; it saves a checkpoint first.

    Raises:
        UserError: there is no such job, or it has ended.
    """
    last = newest(known_to(client), name)
    if last is None:
        names = sorted({known.name for known in known_to(client)})
        raise UserError(
            f"this cluster knows no job {name!r}", remedy=f"its jobs are {', '.join(names) or 'none'}"
        )
    if last.status in ENDED:
        raise UserError(
            f"the job {last.submission_id} has ended: {last.status}", remedy="there is nothing to stop"
        )
    client.stop_job(last.submission_id)
    return last


def _id(wanted: Wanted, number: int) -> str:
    return submission_id(wanted.name, number)


def _found(known: Known, say: Say) -> Submitted:
    is_done = known.status == SUCCEEDED
    say(f"{known.submission_id} is that run already: {'done' if is_done else 'it goes on'}")
    return Submitted(submission_id=known.submission_id, number=known.number, is_new=False, is_done=is_done)


def _taken(client: Any, wanted: Wanted, say: Say) -> Submitted:
    """Somebody submitted the same at the same moment, or something else has the name."""
    answer = decide(newest(known_to(client), wanted.name), wanted)
    if isinstance(answer, Known):
        return _found(answer, say)
    raise UserError(
        f"the cluster has another job with the submission id {_id(wanted, answer)!r}",
        remedy="give another --name",
    )
