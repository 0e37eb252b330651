"""What each rank of a split learner holds, and how far its result is from that of one process.

    python -m benchmarks.sharding --model tiny --ranks 2
    python -m benchmarks.sharding --model smollm2-135m --ranks 2 --prompts 2 --samples 2 --updates 2

GRPO updates on the same groups, first in one process alone, then on ranks that are processes of this machine
(gloo). Prints one JSON line: bytes of weights and moments and the highest memory of each process, the largest
difference of a weight and of the losses. Seconds are told too; ranks that share cores gain none.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from benchmarks.rollout import open_model
from benchmarks.update import highest_mib, make_groups
from learner.algorithms.grpo import GRPO
from learner.learner import Learner, LearnerConfig
from learner.optimizer import OptimizerConfig
from learner.ranks import ALONE, Ranks
from learner.rendezvous import join
from learner.tensors import own_part
from rollout.types import Sampling

DEADLINE_S = 900.0


def num_bytes(learner: Learner) -> int:
    """Of the weights and moments that this process holds, tied ones once."""
    moments = [m for of in learner.optimizer.state_dict().values() for m in of.values()]
    parts = [own_part(tensor) for tensor in (*learner.model.parameters(), *moments)]
    return sum(part.numel() * part.element_size() for part in parts)


def work(options: argparse.Namespace, ranks: Ranks) -> None:
    """One process: the updates, and what came of them in a file; the first one also leaves the weights."""
    torch.set_num_threads(options.threads)
    lm = open_model(options.model, torch.float32)
    groups = make_groups(options, lm) if ranks.is_first else []
    if not ranks.is_first:
        lm = lm.to("meta")
        lm.tie_weights()
    config = LearnerConfig(
        optimizer=OptimizerConfig(lr=options.lr),
        max_tokens_per_micro_batch=options.micro_tokens,
        max_mismatch=None,
        max_lagged_mismatch=None,
        device="cpu",
    )
    algorithm = GRPO(GRPO.Config())
    learner = Learner(config, algorithm, lm, sampling=Sampling(), num_updates=1000, seed=0, ranks=ranks)
    losses, seconds = [], []
    for _ in range(options.updates):
        start_s = time.perf_counter()
        losses.append(learner.update(groups)["loss/policy"] if ranks.is_first else learner.follow())
        seconds.append(time.perf_counter() - start_s)
    told = {"held_bytes": num_bytes(learner), "peak_mib": highest_mib(), "losses": losses}
    told["update_s"] = statistics.median(seconds)
    name = f"{ranks.rank}_{ranks.num}"
    Path(options.work, f"{name}.json").write_text(json.dumps(told))
    if ranks.is_first:
        save_file(dict(learner.weights(0).tensors()), Path(options.work, f"{name}.safetensors"))
    else:
        learner.played()


def run(num_ranks: int, folder: str) -> list[dict[str, object]]:
    """All processes of one side; what each told."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.sharding", *sys.argv[1:], "--work", folder]
    places = [["--place", str(rank), str(num_ranks)] for rank in range(num_ranks)]
    processes = [subprocess.Popen([*command, *place]) for place in places]
    codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit("a rank failed")
    return [json.loads(Path(folder, f"{rank}_{num_ranks}.json").read_text()) for rank in range(num_ranks)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny", help="tiny, a folder, or a model's name")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--updates", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--max-new", type=int, default=32)
    parser.add_argument("--full", action="store_true", help="all completions are --max-new long")
    parser.add_argument("--micro-tokens", type=int, default=256)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--place", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.place:
        rank, num = options.place
        store = dist.FileStore(str(Path(options.work, "store")), num) if num > 1 else None
        work(options, ALONE if store is None else join(store, rank, num, DEADLINE_S))
        return
    with tempfile.TemporaryDirectory() as folder:
        sides = {num: run(num, folder) for num in (1, options.ranks)}
        one, several = (load_file(Path(folder, f"0_{num}.safetensors")) for num in sides)
    given = {name: value for name, value in vars(options).items() if name not in ("work", "place")}
    furthest = max(float((one[name] - several[name]).abs().max()) for name in one)
    print(json.dumps({"benchmark": "sharding", **given, "furthest_weight": furthest, "sides": sides}))


if __name__ == "__main__":
    main()
