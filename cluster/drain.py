"""What a container runs before it is taken away (preStop), so that a run saves a checkpoint in time.

    python -m cluster.drain driver --wait-s 240     where the driver runs: ask it to stop, await its end
    python -m cluster.drain learner --wait-s 240    where the learner runs: stay until the driver let it go

It looks at the processes of its own container. The driver exits with 130, so that whoever runs it sees an
attempt that failed and makes another, which goes on; `ray job stop` would say that the job is over.
"""

import argparse
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
PROGRAM = "antiphon"
MODULES = ("cluster", "cluster.jobs.driver")
VERBS = ("train", "resume")
LEARNER = "ray::LearnerActor"
"""How Ray titles the process of the learner's actor; the method that it is at follows."""
POLL_S = 0.5


def is_driver(command: Sequence[str]) -> bool:
    """Whether a process with this command line drives a run: `…/antiphon train …`, `python -m cluster …`."""
    for i, word in enumerate(command[:-1]):
        is_module = word in MODULES and i > 0 and command[i - 1] == "-m"
        is_program = Path(word).name == PROGRAM or is_module
        if is_program and command[i + 1] in VERBS:
            return True
    return False


def is_learner(command: Sequence[str]) -> bool:
    """Whether it is the process of a learner."""
    return bool(command) and command[0].startswith(LEARNER)


def processes(proc: Path = PROC) -> Iterator[tuple[int, list[str]]]:
    """Process id and command line of every process that can be seen."""
    for folder in proc.iterdir():
        if folder.name.isdigit():
            try:
                text = (folder / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue  # It ended while we looked.
            if text:
                yield int(folder.name), [word for word in text.split("\0") if word]


def drain(
    is_meant: Callable[[Sequence[str]], bool],
    wait_s: float,
    ask: Callable[[int], None] | None,
    proc: Path = PROC,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Ask each process that is meant, once, and wait until none is left. Whether all ended in time."""
    asked: set[int] = set()
    deadline_s = time.monotonic() + wait_s
    while found := [pid for pid, command in processes(proc) if is_meant(command)]:
        for pid in found:
            # A second signal would end a driver without a checkpoint.
            if ask is not None and pid not in asked:
                ask(pid)
                asked.add(pid)
        if time.monotonic() > deadline_s:
            return False
        sleep(POLL_S)
    return True


def build_parser() -> argparse.ArgumentParser:
    """What manifests may say to it."""
    parser = argparse.ArgumentParser(description="Wait for a run to save itself.")
    parser.add_argument("what", choices=("driver", "learner"))
    parser.add_argument("--wait-s", type=float, required=True)
    return parser


def main() -> int:
    """Exit code 1 where something still ran at the deadline."""
    arguments = build_parser().parse_args()
    if arguments.what == "driver":
        return int(not drain(is_driver, arguments.wait_s, terminate))
    return int(not drain(is_learner, arguments.wait_s, ask=None))


def terminate(pid: int) -> None:
    """Send SIGTERM, which a run answers with a checkpoint."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)


if __name__ == "__main__":
    raise SystemExit(main())
