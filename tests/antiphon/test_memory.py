"""Memory that stays with the process."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys, torch
from antiphon.memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory() and keep_freed_memory()
class Mallinfo2(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]
mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Mallinfo2
tensors = [torch.ones(4 * 2**20) for _ in range(8)]
del tensors
print(mallinfo2().fordblks)
"""
"""Prints the bytes that are free and still belong to the process after eight tensors of 16 MiB have gone."""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or tuple(map(int, platform.libc_ver()[1].split("."))) < (2, 33),
    reason="mallinfo2 is glibc's, from 2.33 on",
)
def test_temporaries_that_are_freed_stay_with_the_process() -> None:
    """128 MiB were freed. How much stays otherwise depends on what lies behind them: it is not told.

    Mutation: set nothing; leave the threshold of mapping as it is.
    """
    program = subprocess.run([sys.executable, "-c", PROGRAM, "kept"], capture_output=True, check=True)
    assert int(program.stdout) >= 8 * 16 * 2**20
