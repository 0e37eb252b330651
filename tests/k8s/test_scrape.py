"""A real Prometheus scrapes what a run serves, stores it under the names of the rules, and alerts."""

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from typing import Any

import pytest
import yaml

from cluster.metrics import Prometheus
from tests.k8s.kustomize import K8S, read

MONITORING = K8S / "components/monitoring"
DEADLINE_S = 60.0
VALUES = {
    "policy/kl": 0.7,
    "rollout/dropped_stale_total": 3.0,
    "rollout/dropped_score_error_total": 4.0,
    "reward/failed_timeout_total": 5.0,
    "rewards/my judge/scores/latency_s": 6.0,
    "rewards/my judge/scores/num_ok": 2.0,
}


def snake(name: str) -> str:
    """A field of the operator as Prometheus calls it: sourceLabels -> source_labels."""
    return re.sub(r"([A-Z])", lambda found: "_" + found[1].lower(), name)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """Asks a Prometheus that scrapes a run's endpoint with the PodMonitor's relabelling and has the rules."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (Debian: prometheus)")
    folder = tmp_path_factory.mktemp("prometheus")
    endpoint = Prometheus("127.0.0.1", 0)
    endpoint.write(7, VALUES)
    port = free_port()
    write_config(folder, endpoint.url.removeprefix("http://").removesuffix("/metrics"))
    command = [program, f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, f"--config.file={folder}/config.yaml"], stderr=log, stdout=log)
    try:
        yield lambda path, **query: fetch(f"http://127.0.0.1:{port}/api/v1/{path}", query)
    finally:
        process.terminate()
        process.wait(timeout=30)
        endpoint.close()


def write_config(folder: Any, target: str) -> None:
    (rules,) = read(MONITORING / "prometheusrule.yaml")
    for group in rules["spec"]["groups"]:
        for rule in group["rules"]:
            rule["for"] = "0s"
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules["spec"]))
    (monitor,) = read(MONITORING / "podmonitor.yaml")
    relabelling = monitor["spec"]["podMetricsEndpoints"][0]["metricRelabelings"]
    scrape = {
        "job_name": "run",
        "static_configs": [
            {"targets": [target], "labels": {"namespace": "antiphon", "ray_io_cluster": "antiphon-x"}}
        ],
        "metric_relabel_configs": [{snake(k): v for k, v in rule.items()} for rule in relabelling],
    }
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [f"{folder}/rules.yaml"],
        "scrape_configs": [scrape],
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def fetch(url: str, query: dict[str, str]) -> Any:
    with urllib.request.urlopen(f"{url}?{urllib.parse.urlencode(query)}", timeout=5) as answer:
        return json.load(answer)["data"]


def wait_for(look: Any) -> Any:
    """What `look` finds, as soon as it is something."""
    deadline_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_s:
        try:
            if found := look():
                return found
        except OSError:
            pass  # It is not up yet.
        time.sleep(0.2)
    raise AssertionError(f"nothing within {DEADLINE_S} s")


def series(ask: Any, name: str, label: str) -> dict[str, float]:
    """The newest values of a metric by one of its labels."""
    found = wait_for(lambda: ask("query", query=name)["result"])
    return {s["metric"].get(label, ""): float(s["value"][1]) for s in found}


def test_reasons_statuses_and_components_are_labels(ask):
    assert series(ask, "antiphon_rollout_dropped_total", "reason") == {"stale": 3.0, "score_error": 4.0}
    assert series(ask, "antiphon_reward_failed_total", "status") == {"timeout": 5.0}
    assert series(ask, "antiphon_rewards_scores_latency_s", "component") == {"my_judge": 6.0}
    assert series(ask, "antiphon_rewards_scores_num_ok", "component") == {"my_judge": 2.0}


def test_other_names_stay_as_the_code_has_them(ask):
    assert series(ask, "antiphon_policy_version", "ray_io_cluster") == {"antiphon-x": 7.0}
    assert series(ask, "antiphon_policy_kl", "reason") == {"": 0.7}


def test_an_alert_fires_with_its_sentence(ask):
    def firing() -> Any:
        return [a for a in ask("alerts")["alerts"] if a["labels"]["alertname"] == "AntiphonKlHigh"]

    (alert,) = wait_for(firing)
    assert alert["state"] == "firing"
    assert alert["annotations"]["description"] == "KL per token is 0.7 nats."
    assert alert["labels"]["severity"] == "warning"


def test_the_rules_were_evaluated_without_an_error(ask):
    groups = wait_for(lambda: [g for g in ask("rules")["groups"] if g["rules"][0].get("lastEvaluation")])
    assert {rule.get("lastError", "") for group in groups for rule in group["rules"]} == {""}
