"""The random-walks benchmark: what each algorithm reaches on several graphs, and what it needs for that.

    python -m benchmarks.random_walks --out runs/walks [--recipes bc,ppo] [--seeds 1000] [--set key=value]

Runs recipes/walks_*.yaml, each on the graph of each seed, one after the other and each in one process. A run
that is already there is read and not made again. Prints a Markdown table of means over the graphs, and one
JSON line with every run; --plot draws the curves. See docs/random_walks.md.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from recipes.make_walks import store, walk_groups

RECIPES = "bc,ppo,grpo,ilql,dqn,sarsa,soft_q"
OFFLINE = ("ilql",)
"""Recipes that learn from the logged walks alone."""
SEEDS = "1000,1002,1004,1005,1006"
NUM_WALKS = 1000
METRIC = "eval/walk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run. Samples are walks that were played for it; those of measurements are not counted."""

    recipe: str
    seed: int
    before: float
    """Optimality of the 1000 evaluation samples after the supervised phase, if there is one."""
    after: float
    num_samples: int
    samples_to: int | None
    """Played until the first measurement that reached the target; None: it was not reached."""
    wall_s: float
    """Without measurements."""


def run(recipe: str, seed: int, out: Path, settings: Sequence[str]) -> Path:
    """The folder of the run, after it has finished. The trainer refuses one that was left unfinished."""
    folder = out / f"{recipe}_{seed}"
    summary = folder / "summary.json"
    if summary.exists() and json.loads(summary.read_text())["status"] == "done":
        return folder
    wanted = [f"data.seed={seed}", "cluster.mode=inline", "metrics.prometheus_port=null", *settings]
    if recipe in OFFLINE:
        wanted.append(f"replay.trajectories={json.dumps([str(logged_walks(seed, out))])}")
    command = [sys.executable, "-m", "cluster", "train", f"recipes/walks_{recipe}.yaml"]
    command += ["--run-dir", str(folder)]
    for setting in wanted:
        command += ["--set", setting]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def logged_walks(seed: int, out: Path) -> Path:
    """The folder with the logged walks of a graph."""
    folder = out / f"logged_{seed}"
    if not folder.exists():
        store(list(walk_groups(seed, NUM_WALKS)), folder)
    return folder


def read(folder: Path, recipe: str, seed: int, target: float) -> Result:
    """What a finished run has reached."""
    summary = json.loads((folder / "summary.json").read_text())
    played, samples_to = 0, None
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        played = int(row.get("rollout/samples_total", played))
        if samples_to is None and row.get(METRIC, 0.0) >= target:
            samples_to = played
    return Result(
        recipe=recipe,
        seed=seed,
        before=summary["eval"]["before"],
        after=summary["eval"]["after"],
        num_samples=summary["samples"],
        samples_to=samples_to,
        wall_s=round(summary["wall_s"] - summary["phases_s"].get("eval", 0.0), 1),
    )


def curve(folder: Path) -> list[tuple[int, float]]:
    """(walks played, optimality) of every measurement of a run."""
    points, played = [], 0
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        played = int(row.get("rollout/samples_total", played))
        if METRIC in row:
            points.append((played, float(row[METRIC])))
    return points


def plot(folders: Mapping[str, Sequence[Path]], target: float, path: Path) -> None:
    """The mean over the graphs for each recipe; those that play nothing are a line of their last value."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.0, 4.0), layout="constrained")
    for number, (recipe, runs) in enumerate(folders.items()):
        curves = [curve(run) for run in runs]
        played = [x for x, _ in curves[0]]
        mean = [statistics.fmean(c[i][1] for c in curves) for i in range(len(played))]
        if played[-1] == 0:
            axes.axhline(mean[-1], color=f"C{number}", linestyle="--", label=f"{recipe} (plays nothing)")
        else:
            axes.plot(played, mean, "o-", color=f"C{number}", markersize=3, label=recipe)
    axes.axhline(target, color="black", linewidth=0.6, linestyle=":")
    axes.set(xlabel="walks played", ylabel="optimality, mean over the graphs", ylim=(0.0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def table(results: Sequence[Result], target: float) -> str:
    """A line per recipe: means over the graphs, and the lowest."""
    lines = [
        f"| recipe | graphs | before | after (lowest) | samples to {target:g} | samples | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for recipe in dict.fromkeys(r.recipe for r in results):
        own = [r for r in results if r.recipe == recipe]
        after = [r.after for r in own]
        reached = [r.samples_to for r in own if r.samples_to is not None]
        samples_to = f"{statistics.fmean(reached):.0f} ({len(reached)} of {len(own)})" if reached else "never"
        lines.append(
            f"| {recipe} | {len(own)} | {statistics.fmean(r.before for r in own):.3f} "
            f"| {statistics.fmean(after):.3f} ({min(after):.3f}) | {samples_to} "
            f"| {statistics.fmean(r.num_samples for r in own):.0f} "
            f"| {statistics.fmean(r.wall_s for r in own):.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--recipes", default=RECIPES)
    parser.add_argument("--seeds", default=SEEDS, help="of the graphs")
    parser.add_argument("--target", type=float, default=0.95, help="optimality to be reached")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument("--plot", type=Path, help="draw the curves into this .svg or .png")
    options = parser.parse_args()
    results, folders = [], defaultdict(list)
    for recipe in options.recipes.split(","):
        for seed in (int(s) for s in options.seeds.split(",")):
            folder = run(recipe, seed, options.out, options.settings)
            results.append(read(folder, recipe, seed, options.target))
            folders[recipe].append(folder)
            print(results[-1], file=sys.stderr)
    if options.plot:
        plot(folders, options.target, options.plot)
    print(table(results, options.target))
    print(json.dumps({"benchmark": "random_walks", "runs": [asdict(r) for r in results]}))


if __name__ == "__main__":
    main()
