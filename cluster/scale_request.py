"""A person's wish for another number of actors, from `antiphon scale` to the driver of a run.

The wish is a small file in the run directory; the driver takes it away and answers in events.jsonl under the
id of the wish. Nothing is kept for later: what nobody took in time is withdrawn by who asked.
"""

import json
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from antiphon.errors import UserError
from cluster.run_dir import RunDir, write_atomically

SCALED, REFUSED = "scaled", "scale_refused"
"""The events that answer."""
POLL_S = 0.2
MAX_BYTES = 1000
MAX_ACTORS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleRequest:
    """What is wished."""

    id: str
    num_actors: int | None
    """None: what the recipe says, by its own rule where it has one."""


class Requests:
    """The driver's end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # A wish of before this attempt is none for it.
        path.unlink(missing_ok=True)

    def take(self) -> ScaleRequest | None:
        """The newest wish, once; None if there is none, or it cannot be read."""
        try:
            text = self._path.read_bytes()[:MAX_BYTES]
        except OSError:
            return None
        self._path.unlink(missing_ok=True)
        return parse_request(text)


def parse_request(text: bytes) -> ScaleRequest | None:
    """What a file says; None if it is no wish."""
    try:
        said = json.loads(text)
        request = ScaleRequest(id=str(said["id"]), num_actors=said["num_actors"])
    except (ValueError, KeyError, TypeError):
        return None
    n = request.num_actors
    is_number = isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= MAX_ACTORS
    return request if n is None or is_number else None


def ask(
    run_dir: RunDir, num_actors: int | None, timeout_s: float, sleep: Callable[[float], None] = time.sleep
) -> dict[str, Any]:
    """Wish for a number of actors; returns the event with which the driver answers.

    Raises:
        UserError: the run has no actors of its own, is not going on, or refuses.
    """
    recipe = run_dir.load_recipe()
    if recipe["cluster"]["mode"] == "inline":
        raise UserError(
            f"{run_dir.path} runs in one process: it has no actors", remedy="cluster.mode ray has them"
        )
    request = ScaleRequest(id=uuid.uuid4().hex[:8], num_actors=num_actors)
    heard = run_dir.events.stat().st_size if run_dir.events.exists() else 0
    write_atomically(run_dir.scale, json.dumps(asdict(request)))
    deadline_s = time.monotonic() + timeout_s
    while (answer := _answer(run_dir.events, heard, request.id)) is None:
        if time.monotonic() > deadline_s:
            with suppress(FileNotFoundError):
                run_dir.scale.unlink()
            raise UserError(
                f"no driver of {run_dir.path} answered within {timeout_s:g} s",
                remedy="scale a run while it goes on, where its folder is seen; --timeout-s waits longer",
            )
        sleep(POLL_S)
    if answer["event"] == REFUSED:
        raise UserError(f"the run refuses: {answer['reason']}", remedy=answer["remedy"])
    return answer


def _answer(events: Path, heard: int, request: str) -> dict[str, Any] | None:
    """The event after byte `heard` that answers the request; None while there is none."""
    if not events.exists():
        return None
    with events.open("rb") as file:
        file.seek(heard)
        lines = [line for line in file.read().split(b"\n")[:-1] if request.encode() in line]
    found = [event for event in map(json.loads, lines) if event.get("request") == request]
    return found[0] if found else None
