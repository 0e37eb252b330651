"""Tokens per second of the rollout engine, beside `generate` of transformers and, where there is one, vLLM.

    python -m benchmarks.rollout --model tiny --slots 64 --max-new 64
    python -m benchmarks.rollout --model tiny --slots 32 --max-new 128 --variable
    python -m benchmarks.rollout --model smollm2-135m --dtype bf16 --slots 64 --max-new 64
    ... --vllm PATH                                 # the python of an environment that has vLLM

All draw at temperature 1 from the whole distribution, with the same prompts, the same lengths and the same
threads; rounds alternate, the medians count. Only tokens that were asked for count: where lengths differ,
`generate` runs static batches that last as long as their longest row. Prints one JSON line.
"""

import argparse
import json
import random
import statistics
import subprocess
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from rollout.engines.torch_engine import TorchEngine
from rollout.models import ModelConfig, load_model
from rollout.types import Request, Sampling

TINY = LlamaConfig(
    vocab_size=1024,
    hidden_size=256,
    intermediate_size=688,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=4,
    tie_word_embeddings=True,
    max_position_embeddings=2048,
)
"""3.4 million parameters: so little arithmetic that all overhead shows."""
PROMPT_LENGTHS = (32, 64)
VARIABLE_MIN, VARIABLE_MEAN = 8, 40.0
"""Lengths of completions are 8 + Exp(40), cut at --max-new: most are short, a few are long."""
LOWEST_TOKEN_ID = 3


def open_model(name: str, dtype: torch.dtype) -> PreTrainedModel:
    """`tiny` with random weights, a folder, or a model that recipes can name."""
    torch.manual_seed(0)
    if name == "tiny":
        return AutoModelForCausalLM.from_config(TINY).eval().to(dtype=dtype)
    if Path(name).is_dir():
        return AutoModelForCausalLM.from_pretrained(name, dtype=dtype).eval()
    return load_model(ModelConfig(name=name), seed=0).eval().to(dtype=dtype)


def workload(options: argparse.Namespace, vocab_size: int) -> tuple[list[list[int]], list[int]]:
    """Prompts as token ids, and how many tokens each is to be continued by."""
    draw = random.Random(0)
    prompts: list[list[int]] = []
    while len(prompts) < options.prompts:
        length = draw.randint(*PROMPT_LENGTHS)
        prompt = [draw.randrange(LOWEST_TOKEN_ID, vocab_size) for _ in range(length)]
        prompts += [prompt] * options.group
    if not options.variable:
        return prompts, [options.max_new] * len(prompts)
    lengths = [VARIABLE_MIN + int(draw.expovariate(1.0 / VARIABLE_MEAN)) for _ in prompts]
    return prompts, [min(length, options.max_new) for length in lengths]


def by_engine(model: PreTrainedModel, prompts: list[list[int]], wanted: list[int], slots: int) -> Any:
    """Our engine; nothing stops a completion but its length."""
    engine = TorchEngine(TorchEngine.Config(num_slots=slots), model, ())
    engine.policy_version = 0
    requests = [
        Request(token_ids=tuple(p), sampling=Sampling(max_new_tokens=n), seed=i)
        for i, (p, n) in enumerate(zip(prompts, wanted, strict=True))
    ]
    return lambda: engine.generate(requests)


def by_transformers(model: PreTrainedModel, prompts: list[list[int]], wanted: list[int], slots: int) -> Any:
    """Static batches in the order of the prompts, padded on the left."""

    @torch.inference_mode()
    def run() -> None:
        for start in range(0, len(prompts), slots):
            batch, num_new = prompts[start : start + slots], max(wanted[start : start + slots])
            width = max(len(prompt) for prompt in batch)
            ids = torch.tensor([[0] * (width - len(p)) + p for p in batch])
            mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in batch])
            model.generate(  # type: ignore[operator]
                ids,
                attention_mask=mask,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                max_new_tokens=num_new,
                min_new_tokens=num_new,
                pad_token_id=0,
                eos_token_id=2,
            )

    return run


class Vllm:
    """vLLM in a process of its own python: it does not go together with our packages."""

    def __init__(self, python: str, folder: str, options: argparse.Namespace) -> None:
        worker = Path(__file__).with_name("rollout_vllm.py")
        command = [python, str(worker), folder, options.dtype, str(options.slots), str(options.threads)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def __call__(self, prompts: list[list[int]], wanted: list[int]) -> float:
        """Seconds of one run."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"prompts": prompts, "wanted": wanted}) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith('{"seconds"'):
                return float(json.loads(line)["seconds"])
        raise SystemExit("vLLM ended without an answer: run benchmarks/rollout_vllm.py to see why")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny", help="tiny, a folder, or a model's name")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--group", type=int, default=1, help="completions of each prompt")
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--max-new", type=int, default=64)
    parser.add_argument("--variable", action="store_true", help="lengths 8 + Exp(40), cut at --max-new")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--vllm", metavar="PYTHON", help="of an environment with vLLM; --model is a folder then"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = open_model(options.model, torch.float32 if options.dtype == "fp32" else torch.bfloat16)
    prompts, wanted = workload(options, model.config.get_text_config().vocab_size)
    ours = by_engine(deepcopy(model), prompts, wanted, options.slots)
    peer = by_transformers(model, prompts, wanted, options.slots)
    vllm = Vllm(options.vllm, options.model, options) if options.vllm else None
    taken: dict[str, list[float]] = {"engine": [], "transformers": [], **({"vllm": []} if vllm else {})}
    for _ in range(options.rounds + 1):
        taken["engine"].append(seconds(ours))
        taken["transformers"].append(seconds(peer))
        if vllm is not None:
            taken["vllm"].append(vllm(prompts, wanted))
    if vllm is not None:
        vllm.close()
    # The first round allocates.
    rate = {name: sum(wanted) / statistics.median(times[1:]) for name, times in taken.items()}
    ratio = {f"engine/{name}": rate["engine"] / r for name, r in rate.items() if name != "engine"}
    settings = {name: value for name, value in vars(options).items() if name != "vllm"}
    print(json.dumps({"benchmark": "rollout", **settings, "tokens_per_s": rate, "ratio": ratio}))


if __name__ == "__main__":
    main()
