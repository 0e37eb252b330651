"""A program for test_job_submit.py: a Ray head of its own, jobs on it, and a JSON file of what happened.

    python tests/system/drive_jobs.py RECIPE FOLDER

It runs in namespaces of its own: no port and no process of it meets anything else on the machine.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.job_submission import JobStatus, JobSubmissionClient

ROOT = Path(__file__).parents[2]
RUN_PYTHON = f"{sys.executable} -m cluster"
ENDED = (JobStatus.STOPPED, JobStatus.SUCCEEDED, JobStatus.FAILED)
DEADLINE_S = 120.0


def main(recipe: Path, folder: Path) -> None:
    run_dir = folder / "run"
    start_head(folder / "ray")
    client = connect()

    wrong = submit(client, f"train {recipe} --set run.sed=1")
    first = submit(client, f"train {recipe} --run-dir {run_dir}")
    wait_for(lambda: num_updates(run_dir) >= 2, "second update")
    client.stop_job(first)
    wait_for(lambda: client.get_job_status(first) in ENDED, "the end of the stopped job")
    stopped = json.loads((run_dir / "summary.json").read_text())

    second = submit(client, f"resume {run_dir}")
    wait_for(lambda: client.get_job_status(second) in ENDED, "the end of the resumed job")
    wait_for(lambda: client.get_job_status(wrong) in ENDED, "the end of the wrong job")
    resumed = json.loads((run_dir / "summary.json").read_text())

    facts: dict[str, Any] = {
        "wrong": told(client, wrong),
        "stopped": {**told(client, first), "summary": stopped},
        "resumed": {**told(client, second), "summary": resumed},
    }
    copies = (folder / "ray").glob("session_*/runtime_resources/working_dir_files/_ray_pkg_*/*")
    facts["uploaded"] = sorted({path.name for path in copies})
    (folder / "facts.json").write_text(json.dumps(facts))


def start_head(temp_dir: Path) -> None:
    ray = Path(sys.executable).with_name("ray")
    address = ["--node-ip-address=127.0.0.1", f"--temp-dir={temp_dir}"]
    subprocess.run(
        [str(ray), "start", "--head", "--num-cpus=2", *address, "--disable-usage-stats"],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def connect() -> JobSubmissionClient:
    """The dashboard answers a little later than `ray start` returns."""
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        try:
            return JobSubmissionClient("http://127.0.0.1:8265")
        except ConnectionError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.5)


def submit(client: JobSubmissionClient, command: str) -> str:
    """The repository is the working directory, as `--working-dir .` makes it."""
    return client.submit_job(
        entrypoint=f"{RUN_PYTHON} {command}",
        runtime_env={
            "working_dir": str(ROOT),
            "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60", "OMP_NUM_THREADS": "1"},
        },
    )


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"no {what} within {DEADLINE_S:.0f} s")
        time.sleep(0.2)


def num_updates(run_dir: Path) -> int:
    metrics = run_dir / "metrics.jsonl"
    return metrics.read_text().count("loss/policy") if metrics.exists() else 0


def told(client: JobSubmissionClient, job: str) -> dict[str, Any]:
    info = client.get_job_info(job)
    return {
        "status": str(info.status),
        "exit_code": info.driver_exit_code,
        "log": client.get_job_logs(job),
        "wall_s": (info.end_time - info.start_time) / 1000,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
