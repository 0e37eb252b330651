"""Draws the learning curves of runs from their metrics.jsonl, as an SVG or PNG.

    python benchmarks/plot_runs.py runs/quickstart --out docs/images/quickstart.svg

Called by people. It reads nothing but metrics.jsonl, so that it works on a run that is still going.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

EVAL = "eval/"
SMOOTHED_OVER = 5
"""Updates that the line of the training reward is averaged over."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="run directories")
    parser.add_argument("--out", type=Path, required=True, help="the picture, .svg or .png")
    args = parser.parse_args()
    figure, axes = plt.subplots(figsize=(7.0, 4.0), layout="constrained")
    for number, run in enumerate(args.runs):
        try:
            draw(axes, read(run), run.name, f"C{number}")
        except OSError as error:
            print(f"{run} holds no metrics.jsonl ({error.strerror}): name a run directory", file=sys.stderr)
            return 2
    axes.set(xlabel="updates", ylabel="score")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    # Without a date, the same metrics give the same file.
    figure.savefig(args.out, dpi=150, metadata={"Date": None} if args.out.suffix == ".svg" else None)
    return 0


def read(run: Path) -> list[dict[str, Any]]:
    """The rows of a run, one per update or measurement; a last line that is half written is left out."""
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def draw(axes: Axes, rows: list[dict[str, Any]], label: str, color: str) -> None:
    """Training reward as a line, pale before smoothing; held-out measurements as points."""
    reward = [(r["version"], r["reward/mean"]) for r in rows if r.get("reward/mean") is not None]
    if reward:
        version, value = zip(*reward, strict=True)
        axes.plot(version, value, color=color, alpha=0.25, linewidth=0.8)
        axes.plot(version, smooth(value, SMOOTHED_OVER), color=color, label=f"{label}: training reward")
    for name in sorted({k for r in rows for k in r if k.startswith(EVAL)}):
        measured = [(r["version"], r[name]) for r in rows if r.get(name) is not None]
        axes.plot(
            *zip(*measured, strict=True), "o--", color=color, label=f"{label}: held-out {name[len(EVAL) :]}"
        )


def smooth(values: tuple[float, ...], width: int) -> list[float]:
    """The mean of each value and up to `width` - 1 before it."""
    parts = [values[max(0, i + 1 - width) : i + 1] for i in range(len(values))]
    return [sum(part) / len(part) for part in parts]


if __name__ == "__main__":
    sys.exit(main())
