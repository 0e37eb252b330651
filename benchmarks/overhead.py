"""What a run on Ray costs beside generating and learning: in every step, at the start, and in idle actors.

    python -m benchmarks.overhead --model smollm2-135m --prompts 4 --samples 8 --max-new 64
    python -m benchmarks.overhead --model DIR --prompts 16 --samples 8 --max-new 256 --max-lag 1 --threads 1

Runs `antiphon train` with a learner, one rollout actor and a reward service, and reads the clock of each
update in metrics.jsonl; the start and the first steps, which are slow, do not count. With `--max-lag 0` one
thing happens after the other: what is neither generating nor learning is overhead. With `--max-lag 1` they
overlap, and the question is how long the actor waits; that is fair only where generating takes longer than
learning, which the line says too. Prints one JSON line.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks.versus_trl import NO_TOKEN


def recipe(options: argparse.Namespace, num_updates: int) -> dict[str, object]:
    """GRPO on the recipe of whole steps beside TRL, on Ray, with completions that end by their length."""
    num_tasks = 1 if options.max_lag == 0 else 4
    return {
        "run": {"name": "overhead", "num_updates": num_updates, "checkpoint_every": 0},
        "model": {"name": options.model},
        "data": {"name": "reasoning_gym", "dataset": "chain_sum", "num_train": 1024, "num_held_out": 8},
        "encoding": {"format": "plain", "template": "{prompt}\nAnswer: "},
        "rollout": {
            "num_actors": 1,
            "num_threads": options.threads,
            "weights_dtype": "bfloat16" if options.bf16 else "float32",
            "max_lag": options.max_lag,
            "groups_per_update": options.prompts,
            "groups_per_task": max(1, options.prompts // num_tasks),
            "num_samples": options.samples,
            "sampling": {"temperature": 1.0, "max_new_tokens": options.max_new, "stop_token_ids": [NO_TOKEN]},
            "engine": {"name": "torch", "num_slots": options.slots},
        },
        "reward": {"components": [{"name": "benchmarks.versus_trl:answer_and_length"}]},
        "algorithm": {"name": "grpo"},
        "learner": {
            "num_threads": options.threads,
            "autocast": "bfloat16" if options.bf16 else "none",
            "optimizer": {"lr": 1.0e-6},
        },
        "evaluation": {"metric": "answer_and_length", "every": 0, "num_prompts": 1},
        "cluster": {"mode": "ray", "cpus_per_actor": 0.5},
        "metrics": {"prometheus_port": None},
    }


def run(options: argparse.Namespace, folder: Path) -> tuple[dict[str, float], float]:
    """Seconds of a step, in all and by phase of the driver and work of the actor; seconds until it plays."""
    folder.mkdir()
    path = folder / "recipe.yaml"
    skipped, last = options.updates
    path.write_text(yaml.safe_dump(recipe(options, last)))
    command = [sys.executable, "-m", "cluster", "train", str(path), "--run-dir", str(folder / "run")]
    began = time.time()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=options.deadline_s)
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    clocks = [seconds(row) for row in rows if "loss/policy" in row]
    first, end = clocks[skipped - 1], clocks[-1]
    step = {name: (end[name] - first.get(name, 0.0)) / (len(clocks) - skipped) for name in end}
    # Until its first update a run starts, publishes, measures and makes that update, which it publishes too.
    after_start = sum(clocks[0].get(name, 0.0) for name in ("eval", "wait", "learn")) + step["publish"]
    return step, clocks[0]["all"] - began - after_start


def seconds(row: dict[str, float]) -> dict[str, float]:
    """The clock of the machine, and what was counted by phase until then."""
    found = {name: re.fullmatch("run/(.+)_seconds_total", name) for name in row}
    return {"all": row["time"]} | {match[1]: row[name] for name, match in found.items() if match}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a folder, or a model's name")
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--max-new", type=int, default=64)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--max-lag", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bf16", action="store_true", help="actors in bfloat16, and the learner's products")
    parser.add_argument("--updates", type=int, nargs=2, default=(3, 9), help="that do not count, and in all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--deadline-s", type=float, default=900.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = [run(options, Path(folder, str(number))) for number in range(options.rounds)]
    step = {name: statistics.median(own[name] for own, _ in runs) for name in runs[0][0]}
    print(
        json.dumps(
            {
                "benchmark": "overhead",
                **{k: v for k, v in vars(options).items() if k != "deadline_s"},
                "step_s": step,
                "neither_generating_nor_learning": 1 - (step["rollout"] + step["learn"]) / step["all"],
                "actor_idle": 1 - step["rollout"] / step["all"],
                "start_s": statistics.median(start for _, start in runs),
            }
        )
    )


if __name__ == "__main__":
    main()
