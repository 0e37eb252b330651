"""A run so small that it ends in a second, and ways to start one: in this process, or as a program."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModelForCausalLM, LlamaConfig

import cluster.cli
from rollout.tiny import build_tokenizer
from rollout.trajectories import read_parquet

ROOT = Path(__file__).parents[2]
HERE = "tests.system.fakes_parts"


def save_small_model(folder: Path) -> Path:
    """A Llama of 30 thousand parameters with the built-in tokenizer, as a Hugging Face folder."""
    tokenizer = build_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def small_recipe(model: Path) -> dict[str, Any]:
    """Four updates of four prompts x two samples; every completion has its own reward."""
    return {
        "run": {"name": "small", "seed": 1, "num_updates": 4, "checkpoint_every": 1, "num_checkpoints": 9},
        "model": {"name": str(model)},
        "data": {"name": "sort_digits", "num_digits": 2, "num_held_out": 4},
        "rollout": {
            "num_actors": 1,
            "max_lag": 0,
            "groups_per_update": 4,
            "num_samples": 2,
            "groups_per_task": 2,
            "sampling": {"max_new_tokens": 4},
        },
        "reward": {"components": [{"name": f"{HERE}:by_text"}, {"name": f"{HERE}:by_id", "weight": 0.0}]},
        "algorithm": {"name": "ppo"},
        "learner": {"num_threads": 1, "num_minibatches": 2, "optimizer": {"lr": 1e-3}},
        "evaluation": {"num_prompts": 4, "prompts_per_task": 2},
        "metrics": {"tensorboard": False, "prometheus_port": None},
        "cluster": {"mode": "inline"},
    }


def write_recipe(path: Path, recipe: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(recipe))
    return path


def run_cli(*argv: object) -> int:
    """The command line in this process; returns its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["antiphon", *map(str, argv)])
        patch.setattr(sys, "path", list(sys.path))
        with pytest.raises(SystemExit) as ended:
            cluster.cli.main()
    return int(ended.value.code or 0)


def settings(**values: object) -> list[str]:
    """`run__seed=2` -> `--set run.seed=2`."""
    pairs = [f"{name.replace('__', '.')}={json.dumps(value)}" for name, value in values.items()]
    return [word for pair in pairs for word in ("--set", pair)]


@dataclass(frozen=True)
class Program:
    """The command line as a program of its own, in a process group of its own like a shell's job."""

    process: "subprocess.Popen[str]"
    run_dir: Path

    def wait_for(self, condition: Callable[[], bool], what: str, timeout_s: float = 90.0) -> None:
        """Returns as soon as the condition holds; fails if the program ends before."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, f"ended before {what}: {self.process.communicate()}"
            assert time.monotonic() < deadline_s, f"no {what} within {timeout_s} s"
            time.sleep(0.005)

    def wait_for_checkpoint(self, version: int) -> None:
        folder = self.run_dir / "checkpoints" / f"step_{version:06d}"
        self.wait_for(folder.exists, folder.name)

    def stop(self, number: int) -> tuple[int, str, str]:
        """Send the signal to the whole group, as a terminal does; exit code and both outputs."""
        os.killpg(self.process.pid, number)
        return self.end()

    def end(self, timeout_s: float = 120.0) -> tuple[int, str, str]:
        try:
            out, err = self.process.communicate(timeout=timeout_s)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        return self.process.returncode, out, err


def start_program(run_dir: Path, *argv: object, prefix: Sequence[str] = (), **environment: str) -> Program:
    """`python -m cluster ARGV`, behind a prefix such as `unshare`."""
    process = subprocess.Popen(
        [*prefix, sys.executable, "-m", "cluster", *map(str, argv)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    return Program(process, run_dir)


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def summary(run_dir: Path) -> dict[str, Any]:
    return read_json(run_dir / "summary.json")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def events(run_dir: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in lines(run_dir / "events.jsonl") if event["event"] == kind]


OF_THE_PROCESS = re.compile(r"time$|run/|rewards/")
"""Metrics that differ between equal runs: clocks, and what a reward service counted since it was started."""


def updates(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl that speak of an update, without those of its process."""
    found = [line for line in lines(run_dir / "metrics.jsonl") if "run/wall_seconds" in line]
    return [{name: value for name, value in line.items() if not OF_THE_PROCESS.match(name)} for line in found]


def token_ids(run_dir: Path) -> dict[tuple[int, int], list[tuple[int, ...]]]:
    """What the trajectory store holds: the tokens of each group, by its key."""
    groups = list(read_parquet(run_dir / "trajectories"))
    found = {group.key: [t.token_ids for t in group.trajectories] for group in groups}
    assert len(found) == len(groups), "a group is stored twice"
    return found


def assert_same_run(run_dir: Path, other: Path) -> None:
    """Same tokens, same numbers in every update, same weights: bit for bit."""
    assert token_ids(run_dir) == token_ids(other)
    assert updates(run_dir) == updates(other)
    assert summary(run_dir)["weights_digest"] == summary(other)["weights_digest"]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under the folder with its content; empty if there is no such folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
