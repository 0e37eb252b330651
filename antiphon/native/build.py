"""Builds kernels.c with the C compiler of this machine, for this machine, once; called by kernels.py.

    ~/.cache/antiphon/native/<digest of source, compiler and processor>.so
    ($ANTIPHON_CACHE replaces ~/.cache/antiphon)

The threads are those of torch: the library is linked to the OpenMP runtime that torch has loaded, because the
idle threads of a second pool would wait actively, on the same cores.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import torch

HERE = Path(__file__).parent
SOURCES = (
    *("kernels.c", "kernels_body.h", "attention.h", "attention_body.h"),
    *("products.h", "products_body.h", "layers_body.h", "branches.h"),
)
FLAGS = [
    *("-std=gnu11", "-O3", "-march=native", "-mprefer-vector-width=512", "-fopenmp", "-fPIC"),
    # Sums may be taken in any order, as torch takes them. Not -ffast-math: that changes the whole process.
    *("-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math", "-fno-math-errno"),
]
DEADLINE_S = 180.0
"""Some seconds are enough on an idle machine."""


class NotBuilt(Exception):
    """Why there is no library here; torch computes instead."""


@cache
def library() -> ctypes.CDLL:
    """Loads the library, after building it if nobody has for this machine.

    Raises:
        NotBuilt: there is no compiler, or it cannot do what is needed.
    """
    if sys.platform != "linux":
        raise NotBuilt(f"native kernels are built on Linux, not on {sys.platform}")
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise NotBuilt("there is no C compiler (Debian: apt-get install gcc libc6-dev)")
    openmp = _openmp_of_torch()
    target = _folder() / f"{_digest(compiler, openmp)}.so"
    if not target.exists():
        _build(compiler, openmp, target)
    try:
        return ctypes.CDLL(str(target))
    except OSError as error:
        raise NotBuilt(f"the library {target} cannot be loaded: {error}") from error


def _folder() -> Path:
    """Where libraries are kept: in the cache, or where that cannot be used, among temporary files."""
    cache = Path(os.environ.get("ANTIPHON_CACHE") or "~/.cache/antiphon").expanduser()
    reasons = []
    for root in (cache / "native", Path(tempfile.gettempdir(), f"antiphon-native-{os.getuid()}")):
        try:
            return _private(root)
        except OSError as error:
            reasons.append(str(error))
    raise NotBuilt(f"there is no folder for native kernels: {'; '.join(reasons)}")


def _private(root: Path) -> Path:
    """The folder, made if need be. What lies there is code: it is ours, and nobody else writes there.

    Raises:
        OSError: it cannot be, or is not.
    """
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    state = root.stat()
    if state.st_uid != os.getuid() or state.st_mode & 0o022 or not os.access(root, os.W_OK):
        raise PermissionError(f"the folder {root} belongs to others, or others can write there")
    return root


def _openmp_of_torch() -> str:
    torch.ones(1)  # the first operation, at the latest, has brought the runtime in
    lines = Path("/proc/self/maps").read_text().splitlines()
    paths = sorted({line.split(maxsplit=5)[-1] for line in lines if "libgomp" in line})
    if not paths:
        raise NotBuilt("this torch does not use the OpenMP runtime of GNU")
    ours = [path for path in paths if path.startswith(str(Path(torch.__file__).parent.parent))]
    return (ours or paths)[0]


def _digest(compiler: str, openmp: str) -> str:
    processor = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")]
    known = [*FLAGS, openmp, _run([compiler, "--version"]), *processor[:1]]
    known += [(HERE / name).read_text() for name in SOURCES]
    return hashlib.sha256("\0".join(known).encode()).hexdigest()[:32]


def _build(compiler: str, openmp: str, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        part, whole = Path(folder, "kernels.o"), Path(folder, "kernels.so")
        _run([compiler, *FLAGS, "-c", str(HERE / "kernels.c"), "-o", str(part)])
        _run([compiler, "-shared", str(part), openmp, "-lm", "-o", str(whole)])
        whole.replace(target)


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    except subprocess.CalledProcessError as error:
        raise NotBuilt(f"{command[0]} refused: {error.stderr.strip()[:400]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotBuilt(f"{command[0]} did not build the kernels: {error}") from error
    return done.stdout
