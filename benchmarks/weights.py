"""Seconds from a learner's new weights to their confirmation by rollout actors, beside a copy of the bytes.

    python -m benchmarks.weights --model smollm2-135m --actors 2

One round is what a run does after each update: pack, put into the object store, load in every actor
(checked, applied, digest echoed). The copy is one of the packed bytes within this process. Rounds alternate,
the medians count. Prints one JSON line.
"""

import argparse
import json
import os
import statistics
import time

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import numpy as np
import ray
import torch

from benchmarks.rollout import open_model
from rollout.room import Room
from rollout.weights import apply, pack

DEADLINE_S = 120.0


@ray.remote(num_cpus=0.5)
class Holder:
    """A model that takes weights, as the engine of a rollout actor does."""

    def __init__(self, model: str, num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        self._model = open_model(model, torch.float32)

    def load(self, weights: list[ray.ObjectRef]) -> str:
        """Returns the digest of what is held afterwards."""
        return apply(ray.get(weights[0], timeout=DEADLINE_S), self._model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny", help="tiny, a folder, or a model's name")
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--bf16", action="store_true", help="send them in bfloat16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = open_model(options.model, torch.float32)
    dtype = torch.bfloat16 if options.bf16 else None
    room = Room()
    size_bytes = pack(0, model, dtype, room).size_bytes
    ray.init(num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False)
    holders = [Holder.remote(options.model, options.threads) for _ in range(options.actors)]
    source, target = np.ones(size_bytes, np.uint8), np.zeros(size_bytes, np.uint8)
    taken: dict[str, list[float]] = {"pack": [], "put": [], "load": [], "copy": []}
    for version in range(options.rounds + 1):
        marks = [time.perf_counter()]
        weights = pack(version, model, dtype, room)
        marks.append(time.perf_counter())
        reference = ray.put(weights)
        marks.append(time.perf_counter())
        digests = ray.get([holder.load.remote([reference]) for holder in holders], timeout=DEADLINE_S)
        marks.append(time.perf_counter())
        if set(digests) != {weights.digest}:
            raise SystemExit(f"actors hold {digests}, sent {weights.digest}")
        np.copyto(target, source)
        marks.append(time.perf_counter())
        for name, start, end in zip(taken, marks[:-1], marks[1:], strict=True):
            taken[name].append(end - start)
        del weights, reference  # as a learner does; what was packed into is used again
    seconds = {name: statistics.median(times[1:]) for name, times in taken.items()}
    total = seconds["pack"] + seconds["put"] + seconds["load"]
    # The bytes are copied out of the model, into the store, and into the model of every actor.
    num_copies = 2 + options.actors
    result = {"benchmark": "weights", **vars(options), "size_mib": size_bytes / 2**20, "seconds": seconds}
    print(json.dumps({**result, "total": total, "ratio_to_copies": total / (num_copies * seconds["copy"])}))
    ray.shutdown()


if __name__ == "__main__":
    main()
