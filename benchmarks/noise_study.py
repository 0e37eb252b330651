"""What noisy judges do to PPO, and what fusing them well gives back.

    python -m benchmarks.noise_study --out runs/noise [--updates 80] [--sigmas 0,0.5,1,2]

The task of recipes/feedback_sort.yaml, rewarded by three judges alone: exact match with noise of σ/2, σ and
2σ. Without correction they are averaged; with it they are fused by inverse variance, cleaned of outliers
and shrunk. One run each, in one process, same seed. Prints one JSON line: held-out exact match before and
after.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SHARES = (0.5, 1.0, 2.0)
"""Noise of the judges, as multiples of σ."""


def judges(sigma: float, is_corrected: bool) -> list[dict[str, Any]]:
    """The components of a run. The metric itself is watched, not rewarded."""
    common = {"estimates": "quality"} if is_corrected else {"weight": 1.0 / len(SHARES)}
    named = [
        {
            "name": "noisy",
            "label": f"judge_{i}",
            "of": "exact_match",
            "sigma": share * sigma,
            "seed": i,
            **common,
        }
        for i, share in enumerate(SHARES, start=1)
    ]
    return [{"name": "exact_match", "weight": 0.0}, *named]


def run(folder: Path, sigma: float, is_corrected: bool, num_updates: int) -> dict[str, float]:
    """Held-out exact match before and after one run, and its seconds."""
    settings = {
        "run.num_updates": num_updates,
        "run.checkpoint_every": 0,
        "evaluation.every": 0,
        "cluster.mode": "inline",
        "reward.components": judges(sigma, is_corrected),
        "reward.fusion": {"ensembles": {"quality": {}}} if is_corrected else {},
        "watch.trusted": [],
    }
    command = [
        sys.executable,
        "-m",
        "cluster",
        "train",
        "recipes/feedback_sort.yaml",
        "--run-dir",
        str(folder),
    ]
    for key, value in settings.items():
        command += ["--set", f"{key}={json.dumps(value)}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    summary = json.loads((folder / "summary.json").read_text())
    return {
        "before": summary["eval"]["before"],
        "after": summary["eval"]["after"],
        "wall_s": round(summary["wall_s"], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--updates", type=int, default=80)
    parser.add_argument("--sigmas", default="0,0.5,1,2")
    options = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    for sigma in (float(s) for s in options.sigmas.split(",")):
        for is_corrected in (False, True):
            name = f"sigma_{sigma:g}_{'corrected' if is_corrected else 'plain'}"
            found[name] = run(options.out / name, sigma, is_corrected, options.updates)
            print(name, found[name], file=sys.stderr)
    print(json.dumps({"benchmark": "noise_study", "updates": options.updates, **found}))


if __name__ == "__main__":
    main()
