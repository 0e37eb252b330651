"""A Ray head for the programs that run in namespaces of their own (drive_jobs.py, drive_autoscaler.py)."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

NUM_TRIES = 3


@contextmanager
def short_folder() -> Iterator[Path]:
    """For Ray's sockets, whose paths may have 107 bytes: pytest's own folders leave too few of them."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def start_head(temp_dir: Path, *words: str, environment: Mapping[str, str] | None = None) -> None:
    """Ray gives its head 30 s to start, which a busy machine may not have; the second try finds it warm."""
    ray = str(Path(sys.executable).with_name("ray"))
    common = ("--head", "--num-cpus=2", "--node-ip-address=127.0.0.1", "--disable-usage-stats")
    command = [ray, "start", *common, f"--temp-dir={temp_dir}", *words]
    variables = {**os.environ, **(environment or {})}
    for number in range(1, NUM_TRIES + 1):
        is_last = number == NUM_TRIES
        if subprocess.run(command, stdout=subprocess.DEVNULL, check=is_last, env=variables).returncode == 0:
            return
        # What is left of the try before; there is no other Ray in these namespaces.
        subprocess.run([ray, "stop", "--force"], stdout=subprocess.DEVNULL, check=True)
