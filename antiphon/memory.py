"""Freed memory that the process keeps for the next tensor of that size, on Linux with glibc.

Large tensors are mapped anew by the C library each time and given back when they are freed, so that every page
of every temporary is first zeroed by the kernel. A process that makes the same temporaries in every step does
better to keep them. What it holds is then its highest need; that hardly differs.
"""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""Parameters of mallopt(3)."""


def keep_freed_memory() -> bool:
    """Lets malloc serve large blocks from memory that stays with the process; may be called more than once.

    An update of SmolLM2 on two cores takes 0.75 of the time (docs/performance.md).

    Returns:
        Whether the C library took it; False where there is another one.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 2**20}
    return all([mallopt(name, value) == 1 for name, value in settings.items()])
