"""What the reward service costs on top of the libraries that it calls.

    python -m benchmarks.reward_speed [--rows 10000] [--rounds 5]

Prints one JSON line. `share_of_bare` is the throughput of one call through the handle, as a share of what the
bare libraries do with as many processes (rounds alternate, medians). `overhead` is a call that has next to
nothing to compute: 64 samples of exact match.
"""

import argparse
import json
import os
import random
import socket
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import ray
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU

from antiphon.settings import parse
from reward_service.client import RewardClient
from reward_service.config import RewardConfig
from reward_service.http import HttpClient
from reward_service.serving.deployment import deploy, shutdown
from reward_service.serving.handle import HandleClient
from reward_service.types import Sample

COMPONENTS = [{"name": "bleu"}, {"name": "rougeL"}, {"name": "exact_match"}]
NUM_WORDS = (8, 40)
OVERHEAD_BATCH = 64


def rows(num_rows: int) -> list[Sample]:
    """Sentences of words as frequent as in a language; completions differ in a third of the words."""
    draw = random.Random(0)
    words = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("", "n", "rt", "sh")]
    weights = [1.0 / rank for rank in range(1, len(words) + 1)]

    def sentence() -> list[str]:
        return draw.choices(words, weights, k=draw.randint(*NUM_WORDS))

    samples = []
    for i in range(num_rows):
        reference = sentence()
        completion = [draw.choice(words) if draw.random() < 0.33 else w for w in reference]
        samples.append(
            Sample(id=str(i), prompt="p", completion=" ".join(completion), reference=" ".join(reference))
        )
    return samples


def bare(pairs: Sequence[tuple[str, str]]) -> float:
    """The libraries, called directly."""
    bleu, rouge = BLEU(effective_order=True), RougeScorer(["rougeL"])
    total = 0.0
    for completion, reference in pairs:
        total += bleu.sentence_score(completion, [reference]).score / 100.0
        total += rouge.score(reference, completion)["rougeL"].fmeasure
        total += completion.strip() == reference.strip()
    return total


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def throughput(samples: Sequence[Sample], num_processes: int, num_rounds: int) -> dict[str, float]:
    """Rows per second, bare and through the handle, with as many processes each."""
    pairs = [(s.completion, s.reference or "") for s in samples]
    parts = [pairs[i::num_processes] for i in range(num_processes)]
    config = parse(
        RewardConfig, {"components": COMPONENTS, "num_replicas": num_processes, "deadline_s": 600.0}, "reward"
    )
    client = HandleClient(deploy(config, "bench"), config)
    taken: dict[str, list[float]] = {"bare": [], "service": []}
    expected, scored = 0.0, 0.0
    with ProcessPoolExecutor(num_processes) as pool:
        for _ in range(num_rounds + 1):
            start = time.perf_counter()
            expected = sum(pool.map(bare, parts))
            taken["bare"].append(time.perf_counter() - start)
            start = time.perf_counter()
            scored = sum(s.value or 0.0 for s in client.score(samples))
            taken["service"].append(time.perf_counter() - start)
    shutdown("bench")
    if abs(expected - scored) > 1e-6 * len(samples):
        raise SystemExit(f"the sums differ: {expected} bare, {scored} through the service")
    # The first round starts processes and fills caches.
    rate = {name: len(samples) / statistics.median(times[1:]) for name, times in taken.items()}
    return {**rate, "share_of_bare": rate["service"] / rate["bare"]}


def overhead(num_calls: int = 200) -> dict[str, float]:
    """Milliseconds of a call with next to nothing to compute, by HTTP and by handle: median and 95 %."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    section = {"components": [{"name": "exact_match"}]}
    with_door = parse(RewardConfig, {**section, "http": {"enabled": True, "port": port}}, "reward")
    deploy(with_door, "door")
    result = _milliseconds("http", HttpClient(f"http://127.0.0.1:{port}"), num_calls)
    shutdown("door")
    config = parse(RewardConfig, section, "reward")
    client = HandleClient(deploy(config, "overhead"), config)
    result |= _milliseconds("handle", client, num_calls)
    shutdown("overhead")
    return result


def _milliseconds(name: str, client: RewardClient, num_calls: int) -> dict[str, float]:
    """The first calls open connections, and do not count."""
    samples = rows(OVERHEAD_BATCH)
    taken = [1e3 * seconds(lambda: client.score(samples)) for _ in range(num_calls + 20)][20:]
    return {
        f"{name}_median_ms": statistics.median(taken),
        f"{name}_p95_ms": sorted(taken)[int(0.95 * len(taken))],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    ray.init(num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False)
    # The door decides how Serve is started, so it comes first.
    result: dict[str, object] = {"overhead": overhead()}
    samples = rows(options.rows)
    for num_processes in (1, 2):
        result[f"processes_{num_processes}"] = throughput(samples, num_processes, options.rounds)
    print(json.dumps({"benchmark": "reward_speed", "rows": options.rows, "cores": os.cpu_count(), **result}))
    ray.shutdown()


if __name__ == "__main__":
    main()
