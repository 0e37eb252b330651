"""What is chosen for a cluster that a process starts itself, before it imports Ray."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOLD = """
import json, os
from cluster.ray_environment import prepare
prepare()
print(json.dumps({name: value for name, value in os.environ.items() if name.startswith("RAY_")}))
"""


def prepared(**given: str) -> dict[str, str]:
    """Ray's variables in a new process with these."""
    told = subprocess.run(
        [sys.executable, "-c", TOLD], env=given, cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(told.stdout)


def test_a_cluster_of_ones_own_is_alone_and_has_a_token_that_nobody_else_has() -> None:
    first, second = prepared(), prepared()
    assert first.pop("RAY_AUTH_TOKEN") != second.pop("RAY_AUTH_TOKEN")
    assert first == second == {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"RAY_ADDRESS": "10.0.0.1:6379"}, {}),
        ({"RAY_AUTH_MODE": "disabled"}, {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}),
        (
            {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "t"},
            {},
        ),
    ],
)
def test_what_was_chosen_stays(given: dict[str, str], left: dict[str, str]) -> None:
    """Whoever joins a cluster has it from there. Mutation: set the variables whatever there is."""
    assert prepared(**given) == {**given, **left}
