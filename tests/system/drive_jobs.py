"""A program for test_job_submit.py: a Ray head, runs submitted to it, and a JSON file of what happened.

    python tests/system/drive_jobs.py RECIPE FOLDER

It runs in namespaces of its own: no port and no process of it meets anything else on the machine. What is
uploaded is a copy of the packages, with the recipe and with files that must stay behind.
"""

import io
import json
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
from cluster.jobs.connection import connect  # noqa: E402
from cluster.jobs.upload import look_at  # noqa: E402
from tests.system.drive_head import short_folder, start_head  # noqa: E402
from tests.system.fakes_runs import run_cli, summary  # noqa: E402

ADDRESS = "http://127.0.0.1:8265"
PACKAGES = ("antiphon", "reward_service", "rollout", "learner", "cluster", "tests/system", "tests/rollout")
DEADLINE_S = 300.0


def main(recipe: Path, folder: Path, temp_dir: Path) -> None:
    work, runs = make_working_dir(folder / "work", recipe), folder / "runs"
    start_head(temp_dir)
    client = wait_for(reachable, "answer of the dashboard")

    def submit(name: str, *more: str) -> dict[str, Any]:
        place = ("--run-dir", str(runs / name), "--working-dir", str(work))
        common = ("--address", ADDRESS, "--name", name, *place, "--python", sys.executable)
        return call("submit", work / recipe.name, *common, *more)

    facts: dict[str, Any] = {"too_large": submit("large", "--set", "cluster.learner_cpus=64")}
    facts["num_jobs_after_too_large"] = len(client.list_jobs())
    facts["first"] = submit("small", "--stop-wait-s", "200")
    facts["again"] = submit("small")
    facts["other"] = submit("small", "--set", "run.seed=5")
    wait_for(lambda: num_updates(runs / "small") >= 2, "second update")
    # The run waits at version 2 until the gate is open (fakes_parts.py).
    facts["stop"] = {**call("stop", "small", "--address", ADDRESS), "summary": summary(runs / "small")}
    (folder / "hold_2").unlink()
    facts["resumed"] = {**submit("small", "--wait"), "summary": summary(runs / "small")}
    facts["after"] = submit("small", "--wait")
    dying = '{"name": "tests.system.fakes_parts:DyingEngine"}'
    facts["failed"] = submit(
        "dying", "--wait", "--set", f"rollout.engine={dying}", "--set", "cluster.max_restarts=0"
    )
    facts["jobs"] = {job.submission_id: str(job.status.value) for job in client.list_jobs()}
    facts["listed"] = sorted(look_at(work).sizes_bytes)
    facts["uploaded"] = uploaded(temp_dir)
    (folder / "facts.json").write_text(json.dumps(facts))


def make_working_dir(work: Path, recipe: Path) -> Path:
    """A folder as people have it: recipes, code, and much that must not travel."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, work / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(recipe, work)
    (work / ".gitignore").write_text("data/\n")
    for path in ("data/large.bin", ".git/config", "runs/old/recipe.yaml", ".venv/bin/python"):
        (work / path).parent.mkdir(parents=True)
        (work / path).write_text("stays here")
    return work


def reachable() -> Any:
    """The dashboard answers a little later than `ray start` returns."""
    from antiphon.errors import UserError

    try:
        return connect(ADDRESS)
    except UserError:
        return None


def call(*argv: object) -> dict[str, Any]:
    """The command line in this process: its exit code, and all that it printed."""
    told = io.StringIO()
    with redirect_stdout(told), redirect_stderr(told):
        code = run_cli(*argv)
    return {"code": code, "told": told.getvalue()}


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline_s = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"no {what} within {DEADLINE_S:.0f} s")
        time.sleep(0.2)
    return found


def num_updates(run_dir: Path) -> int:
    metrics = run_dir / "metrics.jsonl"
    return metrics.read_text().count("loss/policy") if metrics.exists() else 0


def uploaded(temp_dir: Path) -> list[str]:
    """The files of the copy that Ray made of the working directory, without what Python compiled there."""
    (package,) = temp_dir.glob("session_2*/runtime_resources/working_dir_files/_ray_pkg_*/")
    files = (p.relative_to(package) for p in package.rglob("*") if p.is_file())
    return sorted(str(p) for p in files if "__pycache__" not in p.parts)


if __name__ == "__main__":
    with short_folder() as short:
        main(Path(sys.argv[1]), Path(sys.argv[2]), short)
