"""Memory that stays with the process."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from antiphon.memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory() and keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.ones(4 * 2**20) for _ in range(8)]
    del tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(), faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_temporaries_take_the_place_of_those_before() -> None:
    """Eight of 16 MiB, of which the kernel would bring in every page again.

    Mutation: set nothing.
    """
    faults = {
        how: int(subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, check=True).stdout)
        for how in ("kept", "given back")
    }
    assert faults["kept"] < faults["given back"] / 10
