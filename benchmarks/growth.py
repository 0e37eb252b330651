"""How throughput and memory grow: rollouts with slots, length, group and model; the learner with its batch.

    python -m benchmarks.growth rollout             # one line per setting, one thing changed at a time
    python -m benchmarks.growth learner             # highest memory beside weights and optimizer, per setting
    python -m benchmarks.growth actors              # actors with one thread each, no learner beside them

Rollouts start from 64 prompts of 64 tokens, 64 new tokens each, 64 slots, a Llama of 3.4 million parameters;
the learner from a vocabulary of 1024 and 64 completions of 64 tokens. Medians. Prints one JSON line.
"""

import argparse
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.rollout import LOWEST_TOKEN_ID, TINY
from benchmarks.update import highest_mib, make_groups, our_update
from rollout.engines.torch_engine import TorchEngine
from rollout.types import Request, Sampling

DEADLINE_S = 600.0


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be generated, and by how many slots of which model."""

    slots: int = 64
    prompt: int = 64
    group: int = 1
    layers: int = 4
    width: int = 256
    num: int = 64
    new: int = 64
    threads: int = 2

    def model(self) -> LlamaForCausalLM:
        torch.manual_seed(0)
        scale = self.width / TINY.hidden_size
        config = LlamaConfig(
            **{
                **TINY.to_dict(),
                "hidden_size": self.width,
                "intermediate_size": int(TINY.intermediate_size * scale),
                "num_hidden_layers": self.layers,
                "num_attention_heads": self.width // 64,
                "num_key_value_heads": self.width // 64,
                "head_dim": 64,
                "max_position_embeddings": 8192,
            }
        )
        return LlamaForCausalLM(config).eval()

    def requests(self) -> list[Request]:
        draw = random.Random(0)
        prompts = [
            tuple(draw.randrange(LOWEST_TOKEN_ID, TINY.vocab_size) for _ in range(self.prompt))
            for _ in range(self.num // self.group)
        ]
        sampling = Sampling(max_new_tokens=self.new)
        return [
            Request(token_ids=prompts[n // self.group], sampling=sampling, seed=n) for n in range(self.num)
        ]


ROLLOUTS = {
    "slots": [Work(slots=n) for n in (1, 4, 16, 64, 128)],
    "prompt": [Work(prompt=n) for n in (16, 64, 256, 1024)],
    "group": [Work(group=n) for n in (1, 4, 16)],
    "model": [Work(layers=n, width=w) for n, w in ((4, 256), (8, 512), (12, 768))],
}


def tokens_per_s(work: Work, num_rounds: int = 3) -> tuple[float, float]:
    """Drawn tokens per second, and millions of parameters."""
    torch.set_num_threads(work.threads)
    model = work.model()
    engine = TorchEngine(TorchEngine.Config(num_slots=work.slots), model, ())
    engine.policy_version = 0
    requests, taken = replace(work, num=max(work.num, work.slots)).requests(), []
    engine.generate(requests)
    for _ in range(num_rounds):
        began = time.perf_counter()
        engine.generate(requests)
        taken.append(time.perf_counter() - began)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    return len(requests) * work.new / statistics.median(taken), round(millions, 1)


def rollouts() -> dict[str, list[dict[str, float]]]:
    table: dict[str, list[dict[str, float]]] = {}
    for axis, works in ROLLOUTS.items():
        table[axis] = []
        for work in works:
            speed, millions = tokens_per_s(work)
            table[axis].append({**asdict(work), "parameters_m": millions, "tokens_per_s": round(speed)})
    return table


def actors() -> list[dict[str, int]]:
    """Processes that generate at the same time, one thread each."""
    lines = []
    for num in (1, 2):
        with multiprocessing.get_context("spawn").Pool(num) as pool:
            speeds = pool.map_async(tokens_per_s, [Work(threads=1)] * num, chunksize=1).get(DEADLINE_S)
        lines.append({"actors": num, "tokens_per_s": round(sum(speed for speed, _ in speeds))})
    return lines


def learner() -> dict[str, list[dict[str, float]]]:
    """Highest memory of a process after two updates, less weights, gradients and optimizer."""
    return {
        "vocabulary": [_memory(vocab=n, prompts=8) for n in (1024, 8192, 32768, 131072)],
        "tokens": [_memory(vocab=1024, prompts=n) for n in (4, 8, 16, 32)],
    }


def _memory(vocab: int, prompts: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.growth", "one", str(vocab), str(prompts)]
    done = subprocess.run(command, check=True, capture_output=True, timeout=DEADLINE_S)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def one_memory(vocab: int, prompts: int) -> dict[str, float]:
    """In a process of its own, whose highest memory is that of this work alone."""
    torch.manual_seed(0)
    torch.set_num_threads(2)
    model = LlamaForCausalLM(LlamaConfig(**{**TINY.to_dict(), "vocab_size": vocab}))
    options = argparse.Namespace(
        prompts=prompts, samples=8, max_new=64, full=True, autocast=False, micro_tokens=2048
    )
    groups = make_groups(options, model)
    step = our_update(model, groups, options)
    # Weights, gradients and two moments of AdamW, in float32, and what the libraries take.
    fixed = sum(p.numel() for p in model.parameters()) * 16 / 2**20
    libraries = highest_mib() - fixed / 4
    step()
    step()
    return {
        "vocabulary": vocab,
        "tokens": sum(group.num_tokens for group in groups),
        "peak_mib": round(highest_mib()),
        "beside_mib": round(highest_mib() - fixed - libraries),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("rollout", "learner", "actors", "one"))
    parser.add_argument("numbers", nargs="*", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.what == "one":
        print(json.dumps(one_memory(*options.numbers)))
        return
    table = {"rollout": rollouts, "learner": learner, "actors": actors}[options.what]()
    print(json.dumps({"benchmark": f"growth_{options.what}", "cores": os.cpu_count(), "table": table}))


if __name__ == "__main__":
    main()
