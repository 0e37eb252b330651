"""A program for test_autoscaler.py: a Ray head with an autoscaler and nodes that are processes, a run on it
that grows, loses a node and shrinks, and a JSON file of what happened.

    python tests/system/drive_autoscaler.py RECIPE FOLDER

It runs in namespaces of its own. The run waits at gates (fakes_parts.GatedEngine), so that nothing here is a
matter of speed.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import yaml

from cluster.drain import processes
from cluster.run_dir import RunDir
from cluster.scale_request import ask
from tests.system.drive_head import short_folder, start_head

ROOT = Path(__file__).parents[2]
HEAD_ID = "f" * 51 + "00000"
"""The node id that the provider of fake nodes expects of the head."""
ADDRESS = "127.0.0.1:6379"
DEADLINE_S = 240.0
AUTOSCALER = {
    "cluster_name": "fake",
    "max_workers": 3,
    "provider": {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "gcs_address": ADDRESS,
        "launch_multiple": True,
        "head_node_id": HEAD_ID,
    },
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 2, "head": 1}, "node_config": {}, "max_workers": 0},
        "rollout": {
            "resources": {"CPU": 1, "rollout": 1, "object_store_memory": 100_000_000},
            "node_config": {},
            "min_workers": 0,
            "max_workers": 3,
        },
    },
    "head_node_type": "ray.head.default",
    "upscaling_speed": 100,
    "idle_timeout_minutes": 0.05,
    "auth": {},
    "docker": {},
    **{f"{who}_commands": [] for who in ("initialization", "setup", "head_setup", "worker_setup")},
    **{f"{who}_start_ray_commands": [] for who in ("head", "worker")},
    "file_mounts": {},
    "cluster_synced_files": [],
    "file_mounts_sync_continuously": False,
    "rsync_exclude": [],
    "rsync_filter": [],
}


def main(recipe: Path, folder: Path, temp_dir: Path) -> None:
    gates, run_dir = folder / "gates", RunDir(folder / "run")
    gates.mkdir()
    for version in (1, 2, 3, 4, 6):
        (gates / f"hold_{version}").touch()
    start_autoscaled_head(folder, temp_dir)
    ray.init(address=ADDRESS, log_to_driver=False)
    log = (folder / "run.log").open("w")
    command = [sys.executable, "-m", "cluster", "train", str(recipe), "--run-dir", str(run_dir.path)]
    run = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "RAY_ADDRESS": ADDRESS}, stdout=log, stderr=log
    )
    facts: dict[str, Any] = {"num_nodes": {}}

    def pass_gate(version: int, num_actors: int, num_nodes: int, hold_s: float = 0.0) -> None:
        """Wait until so many actors are at the gate and so many nodes are there, and open the gate.

        Held for longer than anything else takes, the learner's waiting is that of busy actors.
        """
        wait_for(lambda: len(list(gates.glob(f"at_{version}_*"))) >= num_actors, f"actors at {version}", run)
        wait_for(lambda: len(alive()) == num_nodes, f"{num_nodes} nodes at {version}", run)
        facts["num_nodes"][version] = num_nodes
        time.sleep(hold_s)
        (gates / f"hold_{version}").unlink()

    # The rule asks for another actor after an update that waited, with all actors up from its beginning.
    pass_gate(1, num_actors=1, num_nodes=2, hold_s=3.0)
    pass_gate(2, num_actors=2, num_nodes=3)
    pass_gate(3, num_actors=2, num_nodes=3, hold_s=3.0)
    wait_for(lambda: len(list(gates.glob("at_4_*"))) >= 3, "three actors at 4", run)
    kill_node(next(node for node in alive() if node["NodeID"] != HEAD_ID))
    wait_for(lambda: "actor_replaced" in run_dir.events.read_text(), "the loss of an actor", run)
    facts["answer"] = ask(run_dir, 1, timeout_s=DEADLINE_S)
    (gates / "hold_4").unlink()
    # What the leaver made at 4 is the learner's for sure when 6 is out.
    pass_gate(6, num_actors=1, num_nodes=2)
    facts["exit_code"] = run.wait(DEADLINE_S)
    (folder / "facts.json").write_text(json.dumps(facts))


def start_autoscaled_head(folder: Path, temp_dir: Path) -> None:
    config = folder / "autoscaler.yaml"
    config.write_text(yaml.safe_dump(AUTOSCALER))
    words = (
        f"--autoscaling-config={config}",
        '--resources={"head": 1}',
        "--object-store-memory=200000000",
        "--include-dashboard=false",
    )
    environment = {
        "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
    }
    start_head(temp_dir, *words, environment=environment)


def alive() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def kill_node(node: dict[str, Any]) -> None:
    """As a machine that is switched off: the raylet first, and its workers with it."""
    socket = node["RayletSocketName"]
    for pid, command in processes():
        if Path(command[0]).name == "raylet" and any(socket in word for word in command):
            os.kill(pid, signal.SIGKILL)
            return
    raise LookupError(f"no raylet has the socket {socket}")


def wait_for(condition: Callable[[], bool], what: str, run: "subprocess.Popen[bytes]") -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        if run.poll() is not None:
            raise RuntimeError(f"the run ended with {run.returncode} before {what}")
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"no {what} within {DEADLINE_S:.0f} s")
        time.sleep(0.1)


if __name__ == "__main__":
    with short_folder() as short:
        main(Path(sys.argv[1]), Path(sys.argv[2]), short)
