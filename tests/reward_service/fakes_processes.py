"""Processes as the tests of the pool see them, and one that hosts a pool.

The host is called with a label, a completion and the path that is its argument. It prints the process id of
a worker when samples are at work, and then waits to be ended.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from reward_service.isolation.config import IsolationConfig
from reward_service.isolation.pool import Pool
from tests.reward_service.fakes_isolation import HERE
from tests.reward_service.fakes_rewards import sample

A_LOT_S = 60.0
ROOT = Path(__file__).parents[2]


def is_alive(pid: int) -> bool:
    """Neither gone nor a zombie."""
    try:
        return _stat(pid)[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def parent_of(pid: int) -> int:
    return int(_stat(pid)[1])


def _stat(pid: int) -> list[str]:
    """The fields behind the name of the process: its state, its parent, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def children_of(pid: int) -> list[int]:
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for file in files for word in file.read_text().split()]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + A_LOT_S / 2
    while not condition():
        assert time.monotonic() < deadline, f"not within {A_LOT_S / 2:g} s: {what}"
        time.sleep(0.02)


@contextmanager
def host(label: str, completion: str, path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that hosts a pool; it ends with the test at the latest."""
    command = [sys.executable, "-m", "tests.reward_service.fakes_processes", label, completion, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def main(label: str, completion: str, path: str) -> None:
    deadline = time.monotonic() + A_LOT_S
    components = {
        "unruly": (f"{HERE}:unruly", {}),
        "troubled": (f"{HERE}:Troubled", {"how": "hang", "marks": path}),
    }
    pool = Pool({label: components[label]}, IsolationConfig(deadline_s=A_LOT_S))
    if label == "unruly":
        (score,) = pool.score(label, [sample(completion, reference=path)], deadline)
        pool.submit(label, [sample("spin", id=str(i)) for i in range(5)], deadline)
        print(int(score.value or 0), flush=True)
    sys.stdin.read(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
