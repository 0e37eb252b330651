"""The engines torch and vllm on the same work, beside vLLM alone: tokens per second, exactness, new weights.

    PYTHON -m benchmarks.engines --model DIR --slots 64 --max-new 64 [--dtype bf16] [--group 8] [--variable]

PYTHON is that of an environment which has antiphon's dependencies and vLLM (docs/engines.md). "vllm alone" is
vLLM as it comes, in a process of its own, without log-probs, seeds or new weights: what the engine costs
beside it shows what those are paid with. Rounds alternate, medians count. Prints one JSON line.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.rollout import Vllm, open_model, seconds, workload
from rollout.engines.base import Engine
from rollout.engines.torch_engine import TorchEngine
from rollout.engines.vllm_engine import VllmEngine
from rollout.types import Completion, Request, Sampling
from rollout.weights import pack

KV_CACHE_BYTES = 2**31
CONTEXT = 1024
"""As benchmarks/rollout_vllm.py has it."""


def build(model: PreTrainedModel, slots: int) -> dict[str, Engine]:
    """Both engines, each around a copy of the model; nothing stops a completion but its length."""
    torch_engine = TorchEngine(TorchEngine.Config(num_slots=slots), deepcopy(model), ())
    config = VllmEngine.Config(num_slots=slots, max_context=CONTEXT, kv_cache_bytes=KV_CACHE_BYTES)
    engines: dict[str, Engine] = {"torch": torch_engine, "vllm": VllmEngine(config, model, ())}
    for engine in engines.values():
        engine.policy_version = 0
    return engines


@torch.no_grad()
def differences(
    model: PreTrainedModel, requests: Sequence[Request], completions: Sequence[Completion]
) -> Tensor:
    """|Δ log-prob| of every token against one pass of the model over the sequence alone, in nats."""
    found = []
    for request, completion in zip(requests, completions, strict=True):
        text = torch.tensor([request.token_ids + completion.token_ids])
        start = len(request.token_ids) - 1
        logits = model(input_ids=text[:, :-1], use_cache=False).logits[0, start:].float()
        own = logits.log_softmax(-1).gather(1, text[0, start + 1 :, None]).squeeze(1)
        found.append((own - torch.tensor(completion.logprobs)).abs())
    return torch.cat(found)


def measure(
    model: PreTrainedModel, engines: dict[str, Engine], requests: list[Request], alone: Callable[[], float]
) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of one round of generating, and of taking new weights."""
    weights = pack(1, model)
    taken = {"vllm_alone": alone()}
    loaded: dict[str, float] = {}
    for name, engine in engines.items():
        taken[name] = seconds(partial(engine.generate, requests))
        loaded[name] = seconds(partial(engine.load, weights))
    return taken, loaded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a folder")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--group", type=int, default=1, help="completions of each prompt")
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--max-new", type=int, default=64)
    parser.add_argument("--variable", action="store_true", help="lengths 8 + Exp(40), cut at --max-new")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = open_model(options.model, torch.float32 if options.dtype == "fp32" else torch.bfloat16)
    prompts, wanted = workload(options, model.config.get_text_config().vocab_size)
    requests = [
        Request(token_ids=tuple(p), sampling=Sampling(max_new_tokens=n), seed=i)
        for i, (p, n) in enumerate(zip(prompts, wanted, strict=True))
    ]
    engines = build(model, options.slots)
    peer = Vllm(sys.executable, options.model, options)
    rounds = [
        measure(model, engines, requests, lambda: peer(prompts, wanted)) for _ in range(options.rounds + 1)
    ]
    # The first round allocates and compiles.
    taken = {name: statistics.median(r[0][name] for r in rounds[1:]) for name in rounds[0][0]}
    loaded = {name: statistics.median(r[1][name] for r in rounds[1:]) for name in rounds[0][1]}
    exact = {name: differences(model, requests[:8], e.generate(requests[:8])) for name, e in engines.items()}
    result = {
        "benchmark": "engines",
        **vars(options),
        "tokens_per_s": {name: sum(wanted) / s for name, s in taken.items()},
        "load_s": loaded,
        "mean_difference": {name: float(d.mean()) for name, d in exact.items()},
        "max_difference": {name: float(d.max()) for name, d in exact.items()},
    }
    print(json.dumps(result), flush=True)
    peer.close()


if __name__ == "__main__":
    main()
