"""The reward service under load: latencies and errors at growing concurrency, on loopback.

    python -m benchmarks.reward_load [--users 1,4,16,64] [--seconds 10]

Starts a service with its HTTP door, and Locust (`pip install 'antiphon[bench]'`) with simulated users that
each send one request after the other: 16 samples, scored by BLEU, ROUGE-L, exact match and a regular
expression in a child process. Every second request is one that was sent before. Prints one JSON line. Users
and service share the cores of the machine.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

LOCUSTFILE = """
import itertools, json, random
from locust import HttpUser, constant, task

ROWS = json.load(open({rows!r}))
NUMBERS = itertools.count()

class Trainer(HttpUser):
    wait_time = constant(0)

    @task
    def score(self):
        number = next(NUMBERS)
        draw = random.Random(number // 2)
        samples = [dict(draw.choice(ROWS), id=str(i)) for i in range(16)]
        with self.client.post("/v1/score", json={{"samples": samples}}, catch_response=True) as answer:
            if answer.status_code != 200:
                answer.failure(f"HTTP {{answer.status_code}}")
            elif [s["id"] for s in answer.json()["scores"]] != [s["id"] for s in samples]:
                answer.failure("not one score per sample, in order")
            elif any(s["status"] != "ok" for s in answer.json()["scores"]):
                answer.failure("a sample without a score")
"""
COMPONENTS = [
    {"name": "bleu"},
    {"name": "rougeL"},
    {"name": "exact_match"},
    {"name": "regex", "pattern": "[a-z]+( [a-z]+)*"},
]


def load(url: str, locustfile: Path, num_users: int, duration_s: int) -> dict[str, float]:
    """What `num_users` users see within the time."""
    command = [sys.executable, "-m", "locust", "-f", str(locustfile), "--headless", "--json", "--host", url]
    command += ["-u", str(num_users), "-r", str(num_users), "-t", f"{duration_s}s", "--only-summary"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=duration_s + 120, check=False)
    (stats,) = json.loads(done.stdout[done.stdout.index("[") :])
    times = {float(ms): count for ms, count in stats["response_times"].items()}
    return {
        "requests": stats["num_requests"],
        "errors": stats["num_failures"],
        "requests_per_s": round(stats["num_requests"] / duration_s, 1),
        **{f"p{share}_ms": _percentile(times, share / 100) for share in (50, 95, 99)},
    }


def _percentile(times: dict[float, int], share: float) -> float:
    """Of a histogram: the smallest time that `share` of all requests kept to."""
    wanted, seen = share * sum(times.values()), 0
    for ms in sorted(times):
        seen += times[ms]
        if seen >= wanted:
            return ms
    return float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", default="1,4,16,64")
    parser.add_argument("--seconds", type=int, default=10)
    options = parser.parse_args()

    import ray

    from antiphon.settings import parse
    from benchmarks.reward_speed import rows
    from reward_service.config import RewardConfig
    from reward_service.serving.deployment import deploy, shutdown

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    section = {"components": COMPONENTS, "http": {"enabled": True, "port": port}, "num_replicas": 2}
    ray.init(num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False)
    deploy(parse(RewardConfig, section, "reward"), "load")
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        texts = [{"prompt": "p", "completion": s.completion, "reference": s.reference} for s in rows(2000)]
        data, locustfile = Path(folder) / "rows.json", Path(folder) / "locustfile.py"
        data.write_text(json.dumps(texts))
        locustfile.write_text(LOCUSTFILE.format(rows=str(data)))
        for num_users in (int(n) for n in options.users.split(",")):
            found[f"users_{num_users}"] = load(
                f"http://127.0.0.1:{port}", locustfile, num_users, options.seconds
            )
    shutdown("load")
    ray.shutdown()
    print(json.dumps({"benchmark": "reward_load", "cores": os.cpu_count(), **found}))


if __name__ == "__main__":
    main()
