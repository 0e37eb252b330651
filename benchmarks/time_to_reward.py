"""Seconds of training until sampled accuracy reaches a target, on the task of sorting five digits.

    python -m benchmarks.time_to_reward --model DIR [--target 0.9] [--set KEY=VALUE ...]

`DIR` holds a model that was shortly taught the task. Runs recipes/sort_five.yaml once for each seed, measures
every few updates on held-out strings, sampled at temperature 1, and leaves the time of the measurements out.
Prints one JSON line with all measurements.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

METRIC = "eval/exact_match"


def train(options: argparse.Namespace, seed: int, folder: Path) -> dict[str, Any]:
    """One run: (updates, seconds of training, accuracy) of every measurement, and the first at the target."""
    run = folder / f"seed_{seed}"
    command = [sys.executable, "-m", "cluster", "train", "recipes/sort_five.yaml", "--run-dir", str(run)]
    for setting in (f"model.name={options.model}", f"run.seed={seed}", *options.settings):
        command += ["--set", setting]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    measured = [row for row in rows if METRIC in row]
    summary = json.loads((run / "summary.json").read_text())
    # Every measurement plays the same prompts, so that each takes its share of their time.
    one_s = summary["phases_s"]["eval"] / len(measured)
    begin = measured[0]["time"]
    curve = [
        (row["version"], round(row["time"] - begin - number * one_s, 1), round(row[METRIC], 4))
        for number, row in enumerate(measured)
    ]
    reached = next((seconds for _, seconds, accuracy in curve if accuracy >= options.target), None)
    return {"seed": seed, "seconds": reached, "curve": curve}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a folder with weights and tokenizer")
    parser.add_argument("--target", type=float, default=0.9)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = [train(options, int(seed), Path(folder)) for seed in options.seeds.split(",")]
    print(json.dumps({"benchmark": "time_to_reward", "target": options.target, "runs": runs}))


if __name__ == "__main__":
    main()
