"""Where the milliseconds of a decode step go, part by part.

    python -m benchmarks.step --model tiny --slots 64
    python -m benchmarks.step --model smollm2-135m --dtype bf16 --slots 64

Prompts of 48 tokens; 40 steps after the first 20. Every part is timed by itself, where it is called; the
smallest of all steps counts, because others use the machine too. Prints one JSON line.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from benchmarks.rollout import open_model
from rollout.engines.native_decoder import NativeDecoder
from rollout.engines.torch_engine import TorchEngine
from rollout.types import Request, Sampling

NUM_BEFORE, NUM_STEPS = 20, 40


class Clock:
    """Seconds of the step under way, by part."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            result = call(*args, **kwargs)
            self.seconds[name] += time.perf_counter() - began
            return result

        return timed


def take_apart(engine: Any, clock: Clock) -> None:
    """Times the parts of this engine: those of every kind, and those of a native decoder."""
    for name in ("_draw", "_record"):
        setattr(engine, name, clock.around("draw and bookkeeping", getattr(engine, name)))
    decoder = engine._fused
    if not isinstance(decoder, NativeDecoder):
        return
    fused: Any = decoder
    for name in ("attend", "add_norm", "gated"):
        setattr(fused._kernels, name, clock.around(name, getattr(fused._kernels, name)))
    products = ("query_key_value", "output", "gate_up", "down")
    fused._layers = [
        replace(layer, **{name: clock.around(name, getattr(layer, name)) for name in products})
        for layer in fused._layers
    ]
    fused._unembed = clock.around("unembedding", fused._unembed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny", help="tiny, a folder, or a model's name")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--by-torch", action="store_true", help="without native kernels")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = open_model(options.model, torch.bfloat16 if options.dtype == "bf16" else torch.float32)
    config = TorchEngine.Config(num_slots=options.slots, is_native=not options.by_torch)
    engine = TorchEngine(config, model, ())
    engine.policy_version = 0
    for seed in range(options.slots):
        prompt = tuple((5 + 7 * seed + 3 * i) % 1000 + 3 for i in range(48))
        engine.submit(Request(token_ids=prompt, sampling=Sampling(max_new_tokens=100), seed=seed))
    for _ in range(NUM_BEFORE):
        engine.step()
    clock, taken = Clock(), defaultdict(list)
    take_apart(engine, clock)
    for _ in range(NUM_STEPS):
        clock.seconds.clear()
        clock.around("whole step", engine.step)()
        for name, seconds in clock.seconds.items():
            taken[name].append(seconds * 1e3)
    smallest = {name: round(min(times), 2) for name, times in taken.items()}
    print(json.dumps({"benchmark": "step", **vars(options), "ms": smallest}))


if __name__ == "__main__":
    main()
