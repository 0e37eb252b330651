"""What share of a GPU is used: decoding against its memory, an update against its products, TRL beside.

    python -m benchmarks.gpu
    python -m benchmarks.gpu --trl-python PYTHON --trl-script trl_bench.py --trl-model DIR

A Llama of 1.2 billion random parameters in bfloat16. The bounds are the GPU's own, measured in the same run:
bytes per second of a large copy, operations per second of a large product. A decode step must read every
weight and the keys and values of all rows; an update must multiply forward and backward (bounds.py). The
aims are 0.5 and 0.4 of that. Decoding with CUDA graphs and without alternates; medians. TRL's figures come
from benchmarks/versus_trl.py with a folder that has a tokenizer, and a script that trains on the GPU. Prints
a Markdown table and one JSON line.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from antiphon.errors import UserError
from benchmarks.bounds import Shape, group_pairs
from benchmarks.update import make_groups
from learner.algorithms.grpo import GRPO
from learner.learner import Learner, LearnerConfig
from learner.optimizer import OptimizerConfig
from rollout.engines.torch_engine import TorchEngine
from rollout.types import Group, Request, Sampling

SHAPE = Shape(
    num_layers=16,
    hidden_size=2048,
    mlp_size=8192,
    num_heads=32,
    num_kv_heads=8,
    head_size=64,
    vocab_size=128256,
)
"""That of Llama 3.2 1B."""
PROMPT_LENGTH = 128
COPY_BYTES = 4 * 2**30
PRODUCT_SIZE = 8192
NUM_BEFORE = 2
"""Rounds that do not count: libraries make themselves ready in the first, graphs are captured in the next."""


def require_gpu() -> None:
    """
    Raises:
        UserError: torch sees none.
    """
    if not torch.cuda.is_available():
        raise UserError(
            "benchmarks.gpu measures an NVIDIA GPU, and torch sees none",
            remedy="run it on a machine that has one, with a build of torch for CUDA; the other benchmarks "
            "measure CPUs",
        )


def seconds(action: Callable[[], object]) -> float:
    """Until the GPU has done it."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    action()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def median_s(action: Callable[[], object], num: int) -> float:
    return statistics.median([seconds(action) for _ in range(num + NUM_BEFORE)][NUM_BEFORE:])


def bytes_per_s() -> float:
    """Of a copy inside the GPU's memory: read and written."""
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / median_s(lambda: target.copy_(source), 10)


def flops_per_s() -> float:
    """Of a bfloat16 product of two large matrices."""
    matrix = torch.randn(PRODUCT_SIZE, PRODUCT_SIZE, device="cuda", dtype=torch.bfloat16)
    return 2 * PRODUCT_SIZE**3 / median_s(lambda: matrix @ matrix, 10)


def new_model(dtype: torch.dtype) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=SHAPE.vocab_size,
        hidden_size=SHAPE.hidden_size,
        intermediate_size=SHAPE.mlp_size,
        num_hidden_layers=SHAPE.num_layers,
        num_attention_heads=SHAPE.num_heads,
        num_key_value_heads=SHAPE.num_kv_heads,
        head_dim=SHAPE.head_size,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        dtype=dtype,
    )
    with torch.device("cuda"):
        return LlamaForCausalLM(config).to(dtype).eval()  # type: ignore[arg-type]


class Decoding:
    """Completions of equal length in all slots of an engine, after their prompts were read."""

    def __init__(self, is_graphed: bool, options: argparse.Namespace) -> None:
        config = TorchEngine.Config(num_slots=options.slots, is_graphed=is_graphed, device="cuda")
        self.engine = TorchEngine(config, new_model(torch.bfloat16), ())
        self.engine.policy_version = 0
        self._slots, self._max_new = options.slots, options.max_new

    def step_s(self) -> float:
        """Mean over the steps of one round, which ends before the first completion does."""
        prompt = tuple(range(3, 3 + PROMPT_LENGTH))
        sampling = Sampling(max_new_tokens=self._max_new)
        for number in range(self._slots):
            self.engine.submit(Request(token_ids=(3 + number, *prompt[1:]), sampling=sampling, seed=number))
        self.engine.step()
        num_steps = self._max_new - 2
        taken = seconds(lambda: [self.engine.step() for _ in range(num_steps)])
        self.engine.clear()
        return taken / num_steps


def decode_shares(options: argparse.Namespace, memory_bytes_per_s: float) -> dict[str, Any]:
    """Measured steps, and the share of the bound that they reach."""
    sides = {"graphs": Decoding(True, options), "eager": Decoding(False, options)}
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.rounds + NUM_BEFORE):
        for name, side in sides.items():
            taken[name].append(side.step_s())
    step_s = {name: statistics.median(times[NUM_BEFORE:]) for name, times in taken.items()}
    bound_s = SHAPE.step_bytes(options.slots, PROMPT_LENGTH + options.max_new / 2) / memory_bytes_per_s
    return {"step_s": step_s, "bound_s": bound_s, "share": {n: bound_s / s for n, s in step_s.items()}}


def update_share(options: argparse.Namespace, peak: float) -> dict[str, float]:
    """Seconds of a GRPO update with all that belongs to it, and the share of the peak that it reaches."""
    model = new_model(torch.float32)
    shape = argparse.Namespace(prompts=options.prompts, samples=8, max_new=options.max_new, full=True)
    groups = make_groups(shape, model, sampled=lambda _, __, drawn: (-1.0,) * len(drawn))
    config = LearnerConfig(
        optimizer=OptimizerConfig(lr=1e-6),
        autocast="bfloat16",
        max_tokens_per_micro_batch=options.micro_tokens,
        max_mismatch=None,
        max_lagged_mismatch=None,
        device="cuda",
    )
    learner = Learner(config, GRPO(GRPO.Config()), model, sampling=Sampling(), num_updates=1000, seed=0)
    taken = median_s(lambda: learner.update(groups), options.rounds)
    flops = flops_of(groups)
    return {"update_s": taken, "flops": flops, "share": flops / taken / peak}


def flops_of(groups: list[Group]) -> float:
    """Of an update on them, prompts computed once for a group."""
    num_actions = sum(sum(t.action_mask) for g in groups for t in g.trajectories)
    num_tokens = num_actions + sum(len(g.prompt.token_ids) for g in groups)
    pairs = sum(
        group_pairs(len(g.prompt.token_ids), [sum(t.action_mask) for t in g.trajectories]) for g in groups
    )
    return SHAPE.update_flops(num_tokens, num_actions, pairs)


def beside_trl(options: argparse.Namespace) -> dict[str, Any] | None:
    """What benchmarks/versus_trl.py says; None where no TRL is given."""
    if not (options.trl_python and options.trl_script and options.trl_model):
        return None
    command = [sys.executable, "-m", "benchmarks.versus_trl", "--dtype", "bf16", "--completions", "256"]
    command += ["--max-new", str(options.max_new), "--full-length", "--model", options.trl_model]
    command += ["--trl-python", options.trl_python, "--trl-script", options.trl_script]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", type=int, default=256)
    parser.add_argument("--max-new", type=int, default=256)
    parser.add_argument("--prompts", type=int, default=32, help="of an update, with 8 completions each")
    parser.add_argument("--micro-tokens", type=int, default=16384)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trl-python", help="of an environment that has TRL")
    parser.add_argument("--trl-script", help="a program like trl_bench.py that trains on the GPU")
    parser.add_argument("--trl-model", help="a folder with weights and tokenizer")
    options = parser.parse_args()
    try:
        require_gpu()
    except UserError as error:
        parser.error(str(error))
    memory, peak = bytes_per_s(), flops_per_s()
    decode = decode_shares(options, memory)
    torch.cuda.empty_cache()
    update = update_share(options, peak)
    trl = beside_trl(options)
    print("| | measured | bound | share |\n|---|---|---|---|")
    for name, step_s in decode["step_s"].items():
        bound_ms, share = 1e3 * decode["bound_s"], decode["share"][name]
        print(f"| decode step, {name} | {1e3 * step_s:.2f} ms | {bound_ms:.2f} ms | {share:.2f} |")
    bound_s = update["flops"] / peak
    print(f"| update | {update['update_s']:.2f} s | {bound_s:.2f} s | {update['share']:.2f} |")
    found = {"decode": decode, "update": update, "trl": trl}
    peaks = {"bytes_per_s": memory, "flops_per_s": peak, "gpu": torch.cuda.get_device_name()}
    print(json.dumps({"benchmark": "gpu", **vars(options), **peaks, **found}))


if __name__ == "__main__":
    main()
