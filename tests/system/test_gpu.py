"""What a learner and an engine do on a GPU, where there is none: nothing stays on the CPU by mistake."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(900)


def test_learner_and_engine_keep_to_the_device_of_their_model():
    """Five algorithms with checkpoints, the supervised phase, and decoding in all ways with new weights.

    Mutations: a mask of positions, the columns of a layout, or a value head made on the CPU.
    """
    command = [sys.executable, "-m", "tests.system.drive_gpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    folder = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=840)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert "on the GPU and on the CPU" in told.pop("mixed")
    assert len(told) == 12
    # Only the order of sums differs: kernels in C are not for a GPU.
    assert {
        name: found for name, found in told.items() if not (isinstance(found, float) and found < 1e-4)
    } == {}
