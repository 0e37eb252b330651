"""How a submitted run ended, as its last line says: written in the cluster, read by whoever follows it.

The run directory is often out of reach of the person who submitted the job; its log is not.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cluster.run_dir import RunDir

MARK = "antiphon-job "
Texts = tuple[str, str]
"""summary.json and postmortem.json as they are; empty where they are not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastWord:
    """What is told of the end."""

    exit_code: int
    """See docs/troubleshooting.md."""
    status: str = ""
    """Of summary.json; empty where the attempt did not get so far as to write one."""
    attempt: int = 0
    version: int = 0
    checkpoint: str = ""
    """Name of the newest."""
    first_cause: str = ""
    """Of postmortem.json; empty where there was no fatal error."""

    def line(self) -> str:
        return MARK + json.dumps(asdict(self))

    @classmethod
    def read(cls, line: str) -> "LastWord | None":
        """From a line of the log; None where it is not such a line."""
        try:
            facts = json.loads(line.removeprefix(MARK)) if line.startswith(MARK) else None
        except ValueError:
            return None
        if not isinstance(facts, dict) or not isinstance(facts.get("exit_code"), int):
            return None
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in facts.items() if name in known})


def texts(run_dir: RunDir) -> Texts:
    """What stands in the run directory now; to be compared with what stands there later."""
    return _text(run_dir.summary), _text(run_dir.postmortem)


def compose(run_dir: RunDir, exit_code: int, before: Texts) -> LastWord:
    """What the run directory says of an attempt that has ended.

    What stood there before is an earlier attempt's, but for the summary of a run that was found done.
    """
    summary_text, postmortem_text = texts(run_dir)
    is_ours = exit_code == 0 or summary_text != before[0]
    summary = _facts(summary_text) if is_ours else {}
    postmortem = _facts(postmortem_text) if postmortem_text != before[1] else {}
    cause = postmortem.get("first_cause") or {}
    checkpoint = max((p.name for p in run_dir.checkpoints.glob("step_*")), default="")
    return LastWord(
        exit_code=exit_code,
        status=summary.get("status", ""),
        attempt=summary.get("attempt", 0),
        version=summary.get("version", 0),
        checkpoint=checkpoint,
        first_cause=f"{cause['type']}: {cause['message']}" if cause else "",
    )


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _facts(text: str) -> Mapping[str, Any]:
    """What a whole file says; empty for one that is not there."""
    return json.loads(text) if text else {}
