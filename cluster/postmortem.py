"""One file that says why a run died: the first cause, where, and on what machine."""

import json
import os
import platform
import resource
import sys
import time
import traceback
from typing import Any

from antiphon.privacy import NOTHING_MASKED, Masker
from cluster.run_dir import RunDir, write_atomically


def first_cause(error: BaseException) -> BaseException:
    """The earliest error of a chain: what an error was raised from, while handling, or in another process."""
    seen = {id(error)}
    while (earlier := _earlier(error)) is not None and id(earlier) not in seen:
        seen.add(id(earlier))
        error = earlier
    return error


def write_postmortem(
    run_dir: RunDir, error: BaseException, version: int, masker: Masker = NOTHING_MASKED
) -> None:
    """Write postmortem.json for a run that ended with `error` at this policy version."""
    cause = first_cause(error)
    record: dict[str, Any] = {
        "time": time.time(),
        "first_cause": {"type": type(cause).__name__, "message": str(cause)},
        "error": {"type": type(error).__name__, "message": str(error)},
        "traceback": traceback.format_exception(error),
        "version": version,
        "process": {
            "pid": os.getpid(),
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "python": sys.version.split()[0],
            "platform": platform.platform(),
        },
        "last_events": _tail(run_dir),
    }
    write_atomically(run_dir.postmortem, json.dumps(masker.tree(record), indent=2) + "\n")


def _earlier(error: BaseException) -> BaseException | None:
    # An error of a Ray actor carries what was raised there as its attribute `cause`.
    return error.__cause__ or error.__context__ or getattr(error, "cause", None)


def _tail(run_dir: RunDir, num_lines: int = 20) -> list[Any]:
    """The newest events, oldest first."""
    if not run_dir.events.exists():
        return []
    return [json.loads(line) for line in run_dir.events.read_text().splitlines()[-num_lines:]]
