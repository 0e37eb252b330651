"""A real Prometheus over the files that `antiphon dashboard` writes, in a hurry: times are divided."""

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.monitoring.files import write_files
from cluster.run_dir import RunDir

HURRY = 150
"""Half an hour of a rule is 12 seconds."""
SECONDS = {"s": 1, "m": 60, "h": 3600}
DEADLINE_S = 120.0
EVERY = "1s"
"""Between scrapes, and how long one may take."""


def hasten(
    rules: dict[str, Any], hurries: Mapping[str, int], thresholds: Mapping[str, tuple[str, str]]
) -> None:
    """Divide all times in the rules: windows, offsets, `for`, and thresholds that are times.

    Args:
        hurries: by what for some alerts; HURRY for the others.
        thresholds: text in the expression of an alert, and what takes its place.
    """
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        by = hurries.get(rule["alert"], HURRY)

        def shorter(found: re.Match[str], by: int = by) -> str:
            return f"{found[1]}{int(found[2]) * SECONDS[found[3]] * 1000 // by}ms"

        old, new = thresholds.get(rule["alert"], ("", ""))
        assert old in rule["expr"]
        rule["expr"] = re.sub(r"(\[|offset )(\d+)([smh])", shorter, rule["expr"].replace(old, new))
        rule["for"] = re.sub(r"()(\d+)([smh])", shorter, rule["for"])


class Asked:
    """A Prometheus that is up."""

    def __init__(self, url: str) -> None:
        self._url = url

    def query(self, text: str) -> list[dict[str, Any]]:
        """The series that an expression gives now; none while it is not up."""
        query = urllib.parse.urlencode({"query": text})
        try:
            with urllib.request.urlopen(f"{self._url}/api/v1/query?{query}", timeout=10) as answer:
                return json.load(answer)["data"]["result"]
        except OSError:
            return []

    def has_fired(self, alert: str, run: str) -> bool:
        """Whether the alert fired for the run, at any time so far."""
        mark = f'ALERTS{{alertname="{alert}",alertstate="firing",ray_io_cluster="{run}"}}'
        return bool(self.query(f"max_over_time({mark}[1h])"))

    def until(self, is_so: Callable[[], bool], act: Callable[[], Any], what: str) -> None:
        """Act again and again until it is so."""
        deadline_s = time.monotonic() + DEADLINE_S
        while not is_so():
            assert time.monotonic() < deadline_s, f"{what}: not within {DEADLINE_S:.0f} s"
            act()

    def errors(self) -> set[str]:
        """What went wrong with the rules."""
        with urllib.request.urlopen(f"{self._url}/api/v1/rules", timeout=10) as answer:
            groups = json.load(answer)["data"]["groups"]
        return {rule.get("lastError", "") for group in groups for rule in group["rules"]} - {""}


def rest() -> None:
    """What is done while nothing has to be done but to wait."""
    time.sleep(0.1)


@contextmanager
def real_prometheus(
    runs: Sequence[RunDir],
    hurries: Mapping[str, int] = {},
    thresholds: Mapping[str, tuple[str, str]] = {},
) -> Iterator[Asked]:
    """Scrapes the runs; skips the test where there is no Prometheus."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (Debian: prometheus)")
    folder = write_files(runs, "http://127.0.0.1:9090")
    rules = yaml.safe_load((folder / "rules.yaml").read_text())
    hasten(rules, hurries, thresholds)
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
    config = yaml.safe_load((folder / "prometheus.yml").read_text())
    config["global"] = dict.fromkeys(("scrape_interval", "evaluation_interval"), EVERY)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = _free_port()
    command = [program, f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, f"--config.file={folder}/prometheus.yml"], stderr=log, stdout=log
        )
    try:
        yield Asked(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(timeout=60)


def metrics_in(text: str) -> set[str]:
    """Names of the metrics in a PromQL expression."""
    return set(re.findall(r"\b(?:antiphon|ray|autoscaler)_(?!io_cluster)\w+\b", text))


def served(host: str) -> dict[str, float]:
    """What an endpoint serves: each name without Ray's prefix before ours, and the sum over its labels."""
    with urllib.request.urlopen(f"http://{host}/metrics", timeout=30) as answer:
        found = re.findall(r"^([a-zA-Z_:][\w:]*)(?:{.*})? (\S+)", answer.read().decode(), re.MULTILINE)
    sums: dict[str, float] = {}
    for name, value in found:
        own = name.removeprefix("ray_") if name.startswith("ray_antiphon_") else name
        sums[own] = sums.get(own, 0.0) + float(value)
    return sums


def targets(run: RunDir, role: str) -> list[str]:
    """host:port of the endpoints of a run, as it tells them to Prometheus."""
    entries = json.loads(Path(run.targets).read_text())
    return [h for entry in entries if entry["labels"]["antiphon_role"] == role for h in entry["targets"]]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
