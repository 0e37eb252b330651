"""Starts a run, goes on with one, or does either for whoever restarts it without knowing how far it came.

    antiphon train RECIPE --run-dir /shared/run --resume-if-exists

Called by the command line. A Kubernetes job, for one, runs the same command at every attempt.
"""

import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from antiphon.errors import UserError
from cluster.checkpoints import Checkpoints, read_manifest
from cluster.plan import Plan, prepare
from cluster.progress import Progress
from cluster.recipe import Recipe, parse_recipe
from cluster.run_dir import RunDir
from cluster.takeover import take_over
from cluster.train import DONE, INTERRUPTED, Attempt, Outcome

NUM_NAMED = 5
"""Settings that are named where a recipe was changed; the others are only counted."""


def start_or_resume(recipe: Recipe, run_dir: RunDir, progress: Progress) -> Outcome:
    """Start the run, go on with it, or find that it is done. A run keeps the recipe that it began with.

    Raises:
        UserError: the recipe does not fit, or all checkpoints of the run are damaged.
    """
    if not run_dir.recipe.exists():
        return start_run(prepare(recipe), run_dir, progress)
    own = parse_recipe(run_dir.load_recipe())
    if note := differences(own.to_dict(), recipe.to_dict()):
        progress.say(f"note: {run_dir.path} goes on with the recipe it began with; not taken over: {note}")
    summary = run_dir.load_summary()
    if summary.get("status") == DONE:
        return Outcome(status=DONE, summary=summary)
    plan = prepare(own)
    if any(run_dir.checkpoints.glob("step_*")):
        return resume_run(plan, run_dir, progress)
    lease = take_over(run_dir, progress)
    progress.say(f"{run_dir.path} has no checkpoint yet: it begins again")
    _forget(run_dir)
    return Attempt(plan, run_dir, progress, lease=lease).run(Attempt.begin)


def start_run(plan: Plan, run_dir: RunDir, progress: Progress) -> Outcome:
    """A fresh run in a folder that holds none.

    Raises:
        UserError: the folder already holds a run.
    """
    if run_dir.recipe.exists():
        raise UserError(
            f"{run_dir.path} already holds a run",
            remedy=f"`antiphon resume {run_dir.path}` goes on with it; another --run-dir starts a new one",
        )
    if run_dir.is_in_copy:
        progress.say(
            f"note: {run_dir.path.resolve()} is in Ray's copy of the working directory, which Ray may delete "
            "when the job is over; --run-dir keeps the run elsewhere"
        )
    return Attempt(plan, run_dir, progress).run(Attempt.begin)


def resume_run(plan: Plan, run_dir: RunDir, progress: Progress) -> Outcome:
    """Go on with the run in a folder; one that was stopped before its first weights begins again.

    Raises:
        UserError: it has no usable checkpoint.
    """
    told = run_dir.load_summary()
    if told.get("status") == INTERRUPTED and not told["weights_digest"]:
        lease = take_over(run_dir, progress)
        progress.say("stopped before anything was learned: it begins again")
        return Attempt(plan, run_dir, progress, lease=lease).run(Attempt.begin)
    checkpoints = Checkpoints(run_dir.checkpoints, plan.recipe.run.num_checkpoints)
    path, _ = checkpoints.newest()
    lease = take_over(run_dir, progress)
    if path != checkpoints.latest():
        path, _ = checkpoints.newest()  # An attempt that still lived has saved meanwhile.
    manifest = read_manifest(path)
    run_id, version = manifest["run_id"], manifest["version"]
    return Attempt(plan, run_dir, progress, run_id, version, lease).run(Attempt.resume)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The settings in which two recipes differ, in words; empty where they do not."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    keys = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))
    named = [f"{k} {after.get(k)!r} (is {before.get(k)!r})" for k in keys[:NUM_NAMED]]
    rest = len(keys) - len(named)
    return ", ".join(named) + (f" and {rest} more" if rest else "")


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting below a node with its dotted path; a list counts as one setting."""
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}" if path else key)
    else:
        yield path, node


def _forget(run_dir: RunDir) -> None:
    """Remove what an attempt wrote that ended before there was anything to go on from; it is made anew."""
    run_dir.metrics.unlink(missing_ok=True)
    for folder in (run_dir.trajectories, run_dir.tensorboard):
        shutil.rmtree(folder, ignore_errors=True)
