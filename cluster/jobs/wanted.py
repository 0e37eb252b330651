"""What is submitted under a name, and what is to be done where jobs of that name are known. Knows no Ray.

A name stands for one run: the same recipe in the same run directory. Its jobs are the attempts at it; a
cluster knows the first by the name itself and the others as NAME.2, NAME.3, …
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from antiphon.errors import UserError
from antiphon.lease import JOB_VARIABLE
from cluster.start_or_resume import differences

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
NUMBERED = re.compile(r"\.\d+$")
PREFIX = "antiphon_"
"""Of our keys in the metadata of a job."""
PENDING, RUNNING, SUCCEEDED, STOPPED, FAILED = "PENDING", "RUNNING", "SUCCEEDED", "STOPPED", "FAILED"
"""What Ray says of a job."""
ENDED = (SUCCEEDED, STOPPED, FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A run that somebody wants under a name."""

    name: str
    run_dir: str
    recipe: Mapping[str, Any]
    """Resolved, every default written out."""
    entrypoint: str
    stop_wait_s: int
    """How long a stopped job may take to save its checkpoint."""
    environment: Mapping[str, str]

    def metadata(self, number: int) -> dict[str, str]:
        """What the cluster keeps with the job, so that `Known.of` finds it."""
        facts = {
            "name": self.name,
            "number": str(number),
            "run_dir": self.run_dir,
            "stop_wait_s": str(self.stop_wait_s),
            "recipe": json.dumps(self.recipe),
        }
        return {PREFIX + key: value for key, value in facts.items()}

    def variables(self, number: int) -> dict[str, str]:
        """The environment of the job."""
        own = {
            JOB_VARIABLE: submission_id(self.name, number),
            "RAY_JOB_STOP_WAIT_TIME_S": str(self.stop_wait_s),
        }
        return {**self.environment, **own}


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A job of ours that a cluster knows."""

    name: str
    number: int
    status: str
    run_dir: str
    recipe: Mapping[str, Any]
    stop_wait_s: int

    @classmethod
    def of(cls, status: str, metadata: Mapping[str, str]) -> "Known | None":
        """From what Ray tells of a job; None if it is not ours."""
        facts = {k.removeprefix(PREFIX): v for k, v in metadata.items() if k.startswith(PREFIX)}
        if not {"name", "number", "run_dir", "recipe", "stop_wait_s"} <= facts.keys():
            return None
        return cls(
            name=facts["name"],
            number=int(facts["number"]),
            status=status,
            run_dir=facts["run_dir"],
            recipe=json.loads(facts["recipe"]),
            stop_wait_s=int(facts["stop_wait_s"]),
        )

    @property
    def submission_id(self) -> str:
        return submission_id(self.name, self.number)


def submission_id(name: str, number: int) -> str:
    """Under which the cluster knows the job; the same for everybody who submits the same attempt."""
    return name if number == 1 else f"{name}.{number}"


def check_name(name: str) -> str:
    """
    Raises:
        UserError: it cannot be a submission id, or could be that of another name's attempt.
    """
    if not NAME.fullmatch(name) or NUMBERED.search(name):
        raise UserError(
            f"--name {name!r} cannot name a job",
            remedy="use letters, digits, dots, dashes and underscores, without a number after the last dot",
        )
    return name


def newest(known: Iterable[Known], name: str) -> Known | None:
    """The last attempt under the name."""
    return max((k for k in known if k.name == name), key=lambda k: k.number, default=None)


def decide(last: Known | None, wanted: Wanted) -> Known | int:
    """The job that is what is wanted already, or the number of the attempt that is to be submitted.

    A run that was stopped or failed goes on as the next attempt; one that goes on or is done stays as it is.

    Raises:
        UserError: the name stands for another run.
    """
    if last is None:
        return 1
    if last.run_dir != wanted.run_dir:
        _refuse(wanted, f"run directory {wanted.run_dir} (is {last.run_dir})")
    if note := differences(last.recipe, wanted.recipe):
        _refuse(wanted, note)
    return last.number + 1 if last.status in (STOPPED, FAILED) else last


def _refuse(wanted: Wanted, note: str) -> None:
    raise UserError(
        f"the name {wanted.name!r} stands for another run in this cluster: {note}",
        remedy="give another --name and --run-dir, or submit the recipe as it was",
    )
