"""What a local judge costs on top of the engine that plays it.

    python -m benchmarks.judge_speed --model smollm2-135m

One batch of answers is judged by the component `judge` (questions read, replies drawn and parsed), and the
very requests that it made are given to its engine alone. Rounds alternate, the medians count. Prints one JSON
line.
"""

import argparse
import json
import statistics
import time
from typing import Any

import torch

from reward_service.building import build_reward
from reward_service.types import Sample
from rollout.types import Request


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    backend = {"name": "local", "model": {"name": options.model}}
    judge: Any = build_reward("judge", {"backend": backend, "max_new_tokens": 32}, "judge")
    judge.start()
    samples = [
        Sample(id=str(i), prompt=f"How many legs have {i} dogs?", completion=f"{i} dogs have {4 * i} legs.")
        for i in range(options.samples)
    ]
    engine, requests = judge.backend._engine, list[Request]()
    submit = engine.submit
    engine.submit = lambda request: (requests.append(request), submit(request))[1]
    judge.score(samples)
    del engine.submit
    taken: dict[str, list[float]] = {"judge": [], "engine": []}
    for _ in range(options.rounds):
        for name, action in (
            ("judge", lambda: judge.score(samples)),
            ("engine", lambda: engine.generate(requests)),
        ):
            start = time.perf_counter()
            action()
            taken[name].append(time.perf_counter() - start)
    seconds = {name: statistics.median(times) for name, times in taken.items()}
    share = seconds["engine"] / seconds["judge"]
    num_tokens = sum(len(request.token_ids) for request in requests)
    result = {"benchmark": "judge_speed", **vars(options), "num_prompt_tokens": num_tokens}
    print(json.dumps({**result, "seconds": seconds, "share_of_engine": share}))


if __name__ == "__main__":
    main()
