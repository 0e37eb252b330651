"""What the processes of the pool ask of the Linux kernel. Knows nothing of scores."""

import contextlib
import ctypes
import os
import resource
import signal
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_prctl = ctypes.CDLL(None, use_errno=True).prctl


def die_with_parent(parent: int, by: signal.Signals) -> None:
    """This process gets the signal when the thread that started it ends; it ends at once if that is over.

    Args:
        parent: the process id of the parent, which the parent has told.
    """
    _prctl(PR_SET_PDEATHSIG, by)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Descendants whose parent ends become children of this process, wherever in the tree they were."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def children() -> set[int]:
    """The process ids of the children of this process, which has one thread; zombies are among them."""
    pid = os.getpid()
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def kill_group(leader: int) -> None:
    """Kills a process and all that it started and that stayed in its group.

    The leader must not be reaped yet: till then its id cannot be another's.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def limit_memory(extra_bytes: int) -> None:
    """Allocations fail that would take this process more than `extra_bytes` beyond its present address space.

    The address space and not the resident memory, because Linux limits no other; beyond the present one,
    because libraries reserve far more than they use.
    """
    num_pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = num_pages * resource.getpagesize() + extra_bytes
    _, allowed = resource.getrlimit(resource.RLIMIT_AS)
    if allowed != resource.RLIM_INFINITY:
        limit = min(limit, allowed)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def offer_to_be_killed_first() -> None:
    """Where the machine runs out of memory, the kernel is to take this process and not the service."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
