"""Whole training steps per second, beside TRL: the same model, prompts, reward, lengths and threads.

    python -m benchmarks.versus_trl --trl-python PATH --trl-script PATH --model DIR [--dtype bf16]
    ... --completions 64 --samples 8 --max-new 64 [--full-length] [--steps 6] [--rounds 3]

`--trl-script` is a program that trains with GRPOTrainer of TRL and prints a JSON line with samples_s, gen_s
and fwdbwd_s (trl_bench.py); `--trl-python` is the python of an environment that has TRL. Our side is training
in one process. Both do one optimizer step per batch and have no reference model; runs alternate and medians
count. Prints a Markdown table and one JSON line.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

NO_TOKEN = 2**31 - 1
"""A stop token that no model draws: completions end by their length."""


def recipe(options: argparse.Namespace) -> dict[str, object]:
    """What TRL is told to do, as a recipe."""
    is_chat = "smol" in options.model.lower() or "instruct" in options.model.lower()
    sampling: dict[str, object] = {"temperature": 1.0, "max_new_tokens": options.max_new}
    if options.full_length:
        sampling["stop_token_ids"] = [NO_TOKEN]
    num_prompts = options.completions // options.samples
    return {
        "run": {"name": "versus_trl", "num_updates": options.steps + options.warmup, "checkpoint_every": 0},
        "model": {"name": options.model},
        "data": {"name": "reasoning_gym", "dataset": "chain_sum", "num_train": 1024, "num_held_out": 8},
        "encoding": {"format": "chat"} if is_chat else {"format": "plain", "template": "{prompt}\nAnswer: "},
        "rollout": {
            "num_actors": 1,
            "max_lag": 0,
            "groups_per_update": num_prompts,
            "num_samples": options.samples,
            "groups_per_task": num_prompts,
            "num_threads": options.threads,
            "weights_dtype": "bfloat16" if options.dtype == "bf16" else "float32",
            "sampling": sampling,
            "engine": {"name": "torch", "num_slots": options.completions},
        },
        "reward": {"components": [{"name": "benchmarks.versus_trl:answer_and_length"}]},
        "algorithm": {"name": "grpo"},
        "learner": {
            "num_threads": options.threads,
            "autocast": "bfloat16" if options.dtype == "bf16" else "none",
            "optimizer": {"lr": 1.0e-6},
        },
        "evaluation": {"metric": "answer_and_length", "every": 0, "num_prompts": 1},
        "cluster": {"mode": "inline"},
        "metrics": {"prometheus_port": None},
    }


def answer_and_length(completion: str, reference: str) -> float:
    """The reward of trl_bench.py: next to nothing to compute, and different for nearly all completions."""
    return float(reference in completion) + 0.001 * (len(completion) % 97)


def ours(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """One run; the first updates do not count."""
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe(options)))
    run = folder / "run"
    command = [sys.executable, "-m", "cluster", "train", str(path), "--run-dir", str(run)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    ends = {int(row["version"]): float(row["time"]) for row in rows if "loss/policy" in row}
    first, last = options.warmup - 1, options.warmup + options.steps - 1
    offset = min(ends)
    taken = ends[offset + last] - ends[offset + first]
    phases = json.loads((run / "summary.json").read_text())["phases_s"]
    num_updates = options.steps + options.warmup
    return {
        "samples_s": options.steps * options.completions / taken,
        "rollout_s": phases["rollout"] / num_updates,
        "update_s": phases["learn"] / num_updates,
    }


def trl(options: argparse.Namespace) -> dict[str, float]:
    """One run of the peer's script, with the settings that are its fastest."""
    command = [options.trl_python, options.trl_script, "--model", options.model, "--algo", "grpo"]
    command += ["--completions", str(options.completions), "--num-generations", str(options.samples)]
    command += ["--max-new-tokens", str(options.max_new), "--steps", str(options.steps)]
    command += ["--warmup", str(options.warmup), "--threads", str(options.threads), "--dtype", options.dtype]
    command += ["--full-length"] if options.full_length else []
    # As ours: fp32 weights, bf16 products.
    command += ["--autocast"] if options.dtype == "bf16" and options.master_weights else []
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=dict(os.environ))
    told = json.loads(next(line for line in reversed(done.stdout.splitlines()) if line.startswith("{")))
    update_s = told["fwdbwd_s"] + told["logp_s"] + told["opt_s"]
    return {"samples_s": told["samples_s"], "rollout_s": told["gen_s"], "update_s": update_s}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trl-python", required=True)
    parser.add_argument("--trl-script", required=True)
    parser.add_argument("--model", required=True, help="a folder with weights and tokenizer")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--master-weights", action="store_true", help="TRL too keeps fp32 weights with bf16")
    parser.add_argument("--completions", type=int, default=64)
    parser.add_argument("--samples", type=int, default=8, help="completions of each prompt")
    parser.add_argument("--max-new", type=int, default=64)
    parser.add_argument("--full-length", action="store_true", help="all completions are --max-new long")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    sides: dict[str, list[dict[str, float]]] = {"antiphon": [], "trl": []}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            sides["antiphon"].append(ours(options, Path(folder)))
        sides["trl"].append(trl(options))
    medians = {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for name, runs in sides.items()
    }
    print("| | samples/s | rollout s | update s |\n|---|---|---|---|")
    for name, values in medians.items():
        print(
            f"| {name} | {values['samples_s']:.2f} | {values['rollout_s']:.2f} | {values['update_s']:.2f} |"
        )
    ratio = medians["antiphon"]["samples_s"] / medians["trl"]["samples_s"]
    settings = {k: v for k, v in vars(options).items() if not k.startswith("trl_")}
    print(json.dumps({"benchmark": "versus_trl", **settings, "median": medians, "ratio": ratio}))


if __name__ == "__main__":
    main()
