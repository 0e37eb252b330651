"""`antiphon check`: says what follows from a recipe, and does one small step of everything in it.

The step is the recipe's own, made small: one update of two prompts, in one process, in a temporary folder,
through generation, scoring, learning, publication, saving and loading.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cluster.plan import Plan, describe, prepare
from cluster.progress import Progress
from cluster.recipe import Recipe, parse_recipe
from cluster.resources import reserved
from cluster.run_dir import RunDir
from cluster.start_or_resume import resume_run, start_run
from cluster.stop import Interrupted
from cluster.train import DONE
from learner.replays.memory import Memory

SMALL = (
    "run.num_updates=1",
    "run.checkpoint_every=1",
    "rollout.groups_per_update=2",
    "rollout.groups_per_task=2",
    "rollout.max_lag=0",
    "rollout.is_dropping_constant=false",
    "rollout.pause_deadline_s=0.0",
    "learner.num_minibatches=1",
    "learner.num_ranks=1",
    "evaluation.num_prompts=2",
    "evaluation.num_samples=1",
    "metrics.prometheus_port=null",
    "cluster.mode=inline",
)
NUM_TOKENS = 8
"""Tokens of a completion in the small step, at most."""
NUM_REPLAYED_TOKENS = 10_000
"""Tokens of logged data that the small step reads, at most."""


def print_report(plan: Plan, console: Console) -> None:
    """Every number that follows from the recipe, and what it reserves."""
    for title, rows in {**describe(plan), "this machine": _resources(plan.recipe)}.items():
        table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2))
        for name, value in rows.items():
            table.add_row(name, str(value))
        console.print(table)


def take_small_step(recipe: Recipe) -> str:
    """One small update of the recipe, saved and loaded again; says how long it took.

    Raises:
        Interrupted: it was asked to stop.
        Exception: whatever the step found wrong.
    """
    start_s = time.monotonic()
    small = parse_recipe(recipe.to_dict(), (*SMALL, *_caps(recipe)))
    quiet = Console(file=open(os.devnull, "w"))  # noqa: SIM115  lives as long as the process
    with tempfile.TemporaryDirectory() as folder:
        run_dir = RunDir(Path(folder) / "run")
        outcome = start_run(prepare(small), run_dir, Progress(quiet, "check", 1))
        if outcome.status != DONE:
            raise Interrupted
        again = resume_run(prepare(small), run_dir, Progress(quiet, "check", 1))
    if again.summary["weights_digest"] != outcome.summary["weights_digest"]:
        raise RuntimeError("the weights that were loaded are not those that were saved")
    return f"one small step through every stage, saved and loaded: ok, {time.monotonic() - start_s:.1f} s"


def _caps(recipe: Recipe) -> list[str]:
    """What must be lowered but not raised."""
    caps = [f"rollout.num_samples={min(2, recipe.rollout.num_samples)}"]
    caps.append(f"rollout.sampling.max_new_tokens={min(NUM_TOKENS, recipe.rollout.sampling.max_new_tokens)}")
    replay = recipe.replay_plugin[1]
    if isinstance(replay, Memory.Config):
        caps.append(f"replay.capacity_tokens={min(NUM_REPLAYED_TOKENS, replay.capacity_tokens)}")
        caps += ["replay.num_fresh=1", "rollout.groups_per_task=1"] if recipe.num_fresh else []
    if recipe.warm_up is not None:
        caps += ["warm_up.num_steps=1", "warm_up.batch_size=2"]
    return caps


def _resources(recipe: Recipe) -> dict[str, Any]:
    """What the recipe reserves, beside what is here. Another cluster is asked when the run starts."""
    needs, unit = reserved(recipe), {"CPU": "CPUs", "GPU": "GPUs"}
    return {
        "reserved": ", ".join(f"{amount:g} {unit.get(kind, kind)}" for kind, amount in needs.items()),
        "here": f"{os.cpu_count()} CPUs",
        "torch threads": f"{recipe.rollout.most_actors} x {recipe.rollout.num_threads} actors + "
        f"{recipe.learner.num_threads or os.cpu_count()} learner",
    }
