"""Freed memory that the process keeps for the temporaries of its next step, on Linux with glibc.

The C library gives memory back as soon as some tens of MiB are free, so that every page of every temporary is
zeroed by the kernel again and again. A process that makes the same temporaries in every step does better to
keep them. Blocks of more than 32 MiB are mapped and given back one by one as before: kept, they leave holes.
"""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Parameters of mallopt(3)."""


def keep_freed_memory() -> bool:
    """Lets malloc keep up to 2 GiB that are free; may be called more than once.

    What it saves in an update is told in docs/performance.md.

    Returns:
        Whether the C library took it; False where there is another one.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_MMAP_THRESHOLD: 32 * 2**20, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 2**20}
    is_taken = [mallopt(name, value) == 1 for name, value in settings.items()]
    return all(is_taken)
