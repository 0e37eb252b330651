"""Alerts and the dashboard speak of metrics that exist, in PromQL that parses; each alert can be acted on."""

import ast
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.metrics import LABELLED, prometheus_name, series
from cluster.monitoring.board import dashboard
from cluster.monitoring.files import prometheus_config
from reward_service.guards.tally import Tally
from tests.k8s.kustomize import K8S, ROOT, Case, pick, read, render

MONITORING = K8S / "components/monitoring"
PACKAGES = ("antiphon", "reward_service", "rollout", "learner", "cluster")
OURS = re.compile(r"\bantiphon_\w+\b")
OF_RAY = re.compile(r"\b(ray_(?:node|serve)_\w+|autoscaler_\w+)\b")
OF_RAY_NODES = {"NodeAddress", "GpuIndex", "deployment"}
"""Labels that Ray gives to what its nodes serve."""
LABELS = {"namespace", "ray_io_cluster", "component", "reason", "status", "phase", "pod"} | OF_RAY_NODES
SCORES = "rewards/{}/scores/"
"""How a component's counters are called: cluster/rewards.py joins the two parts."""
HOLE = "{}"


def alerts() -> list[dict[str, Any]]:
    (document,) = read(MONITORING / "prometheusrule.yaml")
    return [rule for group in document["spec"]["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [p for p in dashboard()["panels"] if p["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    """Every PromQL expression with a name to tell it by; Grafana's variables as what they may stand for."""
    for alert in alerts():
        yield alert["alert"], alert["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "1m")


EXPRESSIONS = list(expressions())
each_expression = pytest.mark.parametrize(
    "expression", [e for _, e in EXPRESSIONS], ids=[n for n, _ in EXPRESSIONS]
)


@functools.cache
def names_in_code() -> frozenset[str]:
    """Every text of the code that may be a metric's name, with {} for what is filled in.

    Without the dashboard's own: it would always find itself.
    """
    found: set[str] = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if path.parent.name != "monitoring":
                found |= set(_texts(ast.parse(path.read_text())))
    return frozenset(name for name in found if re.fullmatch(r"[a-z][\w/{}~]*", name))


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(v.value if isinstance(v, ast.Constant) else HOLE for v in node.values)


def exists(metric: str) -> bool:
    """Whether Prometheus stores a metric of this name."""
    fixed, open_ended = stored()
    if any(pattern.fullmatch(metric) for pattern in fixed):
        return True
    # What a name ends in is filled in: it must be a word of the code, or any typing error would do.
    ends = [metric.removeprefix(prefix) for prefix in open_ended if metric.startswith(prefix)]
    return any(end in names_in_code() for end in ends)


@functools.cache
def stored() -> tuple[tuple[re.Pattern[str], ...], tuple[str, ...]]:
    """Names as patterns, and the beginnings of names whose end is filled in."""
    names = names_in_code()
    fixed = {n for n in names if not n.endswith(HOLE) and not n.startswith(HOLE)}
    fixed |= {f"{SCORES}{counter}" for counter in score_counters()}
    begins = {n.removesuffix(HOLE) for n in names if n.count(HOLE) == 1 and n.endswith("/" + HOLE)}
    open_ended = tuple(f"{prometheus_name(begin)}_" for begin in begins)
    return tuple(re.compile(as_stored(n)) for n in fixed), open_ended


def score_counters() -> set[str]:
    """What a guard counts of the scores that it gave."""
    return set(Tally().stats())


def as_stored(name: str) -> str:
    """The name that Prometheus stores of what the code calls `name`; a hole stands for any word."""
    plain, _ = series(name.replace(HOLE, "hole"))
    return re.sub(r"(?<=_)hole(?=_|$)", r"\\w+", plain)


def test_there_is_something_to_look_at():
    assert len(alerts()) > 12
    assert len(panels()) > 20


@each_expression
def test_every_metric_of_ours_exists_in_the_code(expression):
    names = set(OURS.findall(expression))
    assert {n for n in names if not exists(n)} == set()


@each_expression
def test_every_metric_of_ray_exists_in_ray(expression):
    import ray

    root = Path(ray.__file__).parent
    reporter = (root / "dashboard/modules/reporter/reporter_agent.py").read_text()
    autoscaler = (root / "autoscaler/_private/prom_metrics.py").read_text()
    for name in OF_RAY.findall(expression):
        if name.startswith("ray_serve_"):
            told = name.removeprefix("ray_").removesuffix("_total")
            assert any(f'"{told}"' in path.read_text() for path in (root / "serve/_private").glob("*.py")), (
                name
            )
        elif name.startswith("ray_"):
            assert f'"{name.removeprefix("ray_")}"' in reporter, name
        else:
            assert f'"{name.removeprefix("autoscaler_")}"' in autoscaler, name


@each_expression
def test_every_expression_speaks_of_some_metric(expression):
    assert OURS.findall(expression) or OF_RAY.findall(expression)


@each_expression
def test_every_expression_is_promql(expression):
    promql = pytest.importorskip("promql_parser", reason="promql-parser is not installed")
    promql.parse(expression)


@pytest.mark.parametrize("wrong", ["rate(antiphon_policy_version[30m]", "sum by (", "1 < < 2"])
def test_what_is_no_promql_is_found(wrong):
    promql = pytest.importorskip("promql_parser", reason="promql-parser is not installed")
    with pytest.raises(ValueError, match=r"."):
        promql.parse(wrong)


@pytest.mark.parametrize(
    "invented",
    ["antiphon_policy_kll", "antiphon_rewards_score_latency_s", "antiphon_reward_meen", "antiphon_qzx"],
)
def test_a_metric_that_nobody_makes_is_found(invented):
    assert not exists(invented)


def test_labels_after_by_are_those_that_the_code_and_the_scrape_make():
    (monitor,) = read(MONITORING / "podmonitor.yaml")
    made = {label for pattern, _ in LABELLED for label in pattern.groupindex} - {"what"}
    targets = {re.sub(r"\W", "_", label) for label in monitor["spec"]["podTargetLabels"]}
    assert LABELS - {"namespace", "pod"} - OF_RAY_NODES <= made | targets
    for _, expression in EXPRESSIONS:
        used = {w.strip() for by in re.findall(r"by \(([^)]*)\)", expression) for w in by.split(",")}
        assert used <= LABELS


def test_names_of_processes_lose_the_prefix_of_ray_on_every_way_to_prometheus():
    """Mutation: leave the rule out of the PodMonitor, or out of what `antiphon dashboard` writes."""
    (monitor,) = read(MONITORING / "podmonitor.yaml")
    (endpoint,) = [e for e in monitor["spec"]["podMetricsEndpoints"] if e["port"] == "metrics"]
    config = prometheus_config([Path("targets.json")], Path("rules.yaml"))
    (here,) = config["scrape_configs"][0]["metric_relabel_configs"]
    (there,) = endpoint["metricRelabelings"]
    assert list(here.values()) == list(there.values())
    assert re.sub(here["regex"], r"\1", "ray_antiphon_actor_tasks_total") == "antiphon_actor_tasks_total"


def test_the_scraped_ports_are_ports_of_the_pods():
    (monitor,) = read(MONITORING / "podmonitor.yaml")
    (job,) = read(K8S / "base/job/rayjob.yaml")
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    ports = {p["name"]: p["containerPort"] for p in head["ports"]}
    scraped_ports = {e["port"] for e in monitor["spec"]["podMetricsEndpoints"]}
    assert scraped_ports <= set(ports)
    (door,) = read(MONITORING / "networkpolicy.yaml")
    opened = {p["port"] for p in door["spec"]["ingress"][0]["ports"]}
    assert opened == {ports[name] for name in scraped_ports}


def test_every_alert_says_what_it_saw_and_where_to_read_on():
    page = (K8S / "README.md").read_text()
    names = [alert["alert"] for alert in alerts()]
    assert len(names) == len(set(names))
    for alert in alerts():
        assert alert["labels"]["severity"] in ("warning", "critical")
        assert alert["annotations"]["summary"].endswith(".")
        assert "{{ $" in alert["annotations"]["description"] or alert["alert"] == "AntiphonRewardHacking"
        assert alert["annotations"]["runbook"] == f"k8s/README.md#{alert['alert'].lower()}"
        assert f"\n#### {alert['alert']}\n" in page


def test_the_page_tells_of_no_alert_that_is_gone():
    told = set(re.findall(r"^#### (Antiphon\w+)$", (K8S / "README.md").read_text(), re.MULTILINE))
    assert told == {alert["alert"] for alert in alerts()}


def test_panels_have_their_own_place_and_number():
    everything = dashboard()["panels"]
    assert len({p["id"] for p in everything}) == len(everything)
    covered = [
        (x, y)
        for p in everything
        for x in range(p["gridPos"]["x"], p["gridPos"]["x"] + p["gridPos"]["w"])
        for y in range(p["gridPos"]["y"], p["gridPos"]["y"] + p["gridPos"]["h"])
    ]
    assert len(covered) == len(set(covered))
    assert max(x for x, _ in covered) < 24
    for panel in panels():
        assert panel["datasource"]["uid"] == "${datasource}"
        assert len({t["refId"] for t in panel["targets"]}) == len(panel["targets"])


def test_the_dashboard_comes_as_a_config_map_that_grafana_looks_for():
    documents = render(Case("gpu-70b", ("auth-token", "monitoring", "spot-gke", "kueue", "s3-checkpoints")))
    (config,) = [d for d in pick(documents, "ConfigMap") if d["metadata"]["name"] == "antiphon-dashboard"]
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(config["data"]["antiphon.json"]) == dashboard()


def test_every_alert_is_tried_with_numbers_at_which_it_fires_and_at_which_it_is_silent():
    tried = yaml.safe_load((Path(__file__).parent / "alerts.test.yaml").read_text())
    fires, silent = set(), set()
    for case in tried["tests"]:
        for check in case["alert_rule_test"]:
            (fires if check.get("exp_alerts") else silent).add(check["alertname"])
    names = {alert["alert"] for alert in alerts()}
    assert (fires, silent) == (names, names)
