"""The Grafana dashboard of a run, made out of the list of panels below.

Written beside a run by files.py, and into k8s/ by k8s/make_monitoring.py. tests/k8s/test_monitoring.py parses
every expression and looks for every metric in the code. Knows names of metrics, not who makes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ONE = '{namespace="$namespace", ray_io_cluster=~"$cluster"}'
"""Labels by which runs are told apart: those of KubeRay's pods, which targets.py gives to other runs too."""
COLUMNS, WIDTH, HEIGHT = 4, 6, 7
"""Panels in a row of the dashboard; width and height of each in Grafana's units (24 across)."""
PER_RUN = "{{ray_io_cluster}}"


@dataclass(frozen=True)
class Panel:
    """A plot: what it shows, in which unit, and its lines as (legend, PromQL)."""

    title: str
    unit: str
    lines: Sequence[tuple[str, str]]


def of(name: str) -> str:
    """A metric of the chosen run."""
    return f"antiphon_{name}{ONE}"


def gauges(title: str, unit: str, *names: str) -> Panel:
    """Metrics as they are."""
    legends = [PER_RUN if len(names) == 1 else f"{name} {PER_RUN}" for name in names]
    return Panel(title, unit, [(legend, of(name)) for legend, name in zip(legends, names, strict=True)])


def rate(name: str) -> str:
    return f"rate({of(name)}[$__rate_interval])"


def rates(title: str, unit: str, name: str, label: str = "ray_io_cluster") -> Panel:
    """A counter per second, summed by a label."""
    return Panel(title, unit, [(f"{{{{{label}}}}}", f"sum by ({label}) ({rate(name)})")])


LATENCY = f"{rate('rewards_scores_latency_s')} / {rate('rewards_scores_num_ok')}"
BY_NODE = f"sum by (NodeAddress) ({rate('actor_completion_tokens_total')})"
ONGOING = f"sum by (deployment) (ray_serve_replica_processing_queries{ONE})"
QUEUED = f"sum by (deployment) (ray_serve_deployment_queued_queries{ONE})"
REQUESTS = f"sum by (deployment) (rate(ray_serve_num_router_requests_total{ONE}[$__rate_interval]))"
ROWS: dict[str, Sequence[Panel]] = {
    "Health": (
        gauges("Version", "none", "policy_version"),
        Panel("Since the last update", "s", [(PER_RUN, f"time() - {of('policy_update_time_seconds')}")]),
        Panel("Updates an hour", "none", [(PER_RUN, f"3600 * deriv({of('policy_version')}[30m])")]),
        rates("Completion tokens", "cps", "rollout_completion_tokens_total"),
        gauges("Paused", "bool", "run_paused"),
    ),
    "Learning": (
        gauges("Reward", "none", "reward_mean", "reward_std"),
        gauges("Groups with equal rewards", "percentunit", "reward_constant_groups"),
        gauges("Distance from the reference, nats per token", "none", "policy_kl", "policy_approx_kl"),
        gauges("Entropy, nats per token", "none", "policy_entropy", "rollout_entropy"),
        gauges("Clipped", "percentunit", "policy_clip_fraction", "value_clip_fraction"),
        gauges("Gradient norm", "none", "grad_norm"),
        gauges("Losses", "none", "loss_policy", "loss_value", "loss_q"),
        gauges("Steps skipped: gradients were not finite", "none", "num_skipped"),
        gauges("Completion length, tokens", "none", "length_mean", "length_max"),
        gauges("Completions that do not end", "percentunit", "rollout_truncated"),
        gauges("Effective sample size", "none", "ess"),
        gauges("Learning rate", "sci", "lr"),
    ),
    "Pipeline": (
        Panel(
            "Where the driver's time goes",
            "percentunit",
            [("{{phase}}", f"sum by (phase) ({rate('run_seconds_total')})")],
        ),
        gauges("Actors", "none", "rollout_actors", "rollout_actors_current", "rollout_actors_idle"),
        Panel(
            "Actors that were replaced",
            "none",
            [
                (what, f"sum(increase({of(f'rollout_{name}_total')}[1h]))")
                for what, name in (("all", "actors_replaced"), ("without the weights", "weights_refused"))
            ],
        ),
        gauges(
            "Groups under way, and ready for the learner",
            "none",
            "rollout_groups_running",
            "rollout_groups_ready",
        ),
        gauges("Age of what is learned from, updates", "none", "rollout_lag_mean", "rollout_lag_max"),
        gauges("Sampler against learner, nats", "none", "mismatch_mean", "mismatch_p99"),
        rates("Samples", "cps", "rollout_samples_total"),
        rates("Dropped groups, by reason", "cps", "rollout_dropped_total", "reason"),
    ),
    "Processes": (
        Panel(
            "What actors do",
            "percentunit",
            [(what, f"sum({rate(f'actor_{what}_seconds_total')})") for what in ("generate", "score", "load")],
        ),
        Panel(
            "What the learner does",
            "percentunit",
            [(what, f"sum({rate(f'learner_{what}_seconds_total')})") for what in ("update", "pack", "save")],
        ),
        Panel("Completion tokens by node", "cps", [("{{NodeAddress}}", BY_NODE)]),
        Panel("Weights that actors hold", "none", [("oldest", f"min({of('actor_policy_version')})")]),
        Panel(
            "Requests that reward processes have, and that wait for one",
            "none",
            [("{{deployment}}", ONGOING), ("{{deployment}} waits", QUEUED)],
        ),
        Panel("Requests to reward processes", "reqps", [("{{deployment}}", REQUESTS)]),
    ),
    "Rewards": (
        rates("Samples without a score, by status", "cps", "reward_failed_total", "status"),
        Panel("Latency of a score", "s", [("{{component}}", LATENCY)]),
        Panel("Scores", "cps", [("{{component}}", rate("rewards_scores_num_ok"))]),
        gauges("Watch: alarms, duplicates", "none", "watch_alarms_total", "watch_duplicates_in_group"),
    ),
    "Nodes": (
        Panel("Memory", "percentunit", [("{{pod}}", f"ray_node_mem_used{ONE} / ray_node_mem_total{ONE}")]),
        Panel("CPU", "percent", [("{{pod}}", f"ray_node_cpu_utilization{ONE}")]),
        Panel("GPU", "percent", [("{{pod}} {{GpuIndex}}", f"ray_node_gpus_utilization{ONE}")]),
        Panel(
            "Nodes",
            "none",
            [(state, f"sum(autoscaler_{state}_nodes{ONE})") for state in ("active", "pending")],
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """The whole dashboard, as Grafana imports it."""
    return {
        "uid": "antiphon-run",
        "title": "Antiphon: a run",
        "tags": ["antiphon"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": variables()},
        "panels": panels(),
    }


def variables() -> list[dict[str, Any]]:
    """What a person chooses at the top."""
    source = {"type": "prometheus", "uid": "${datasource}"}
    known = "antiphon_policy_version"
    return [
        {"name": "datasource", "type": "datasource", "query": "prometheus"},
        _query("namespace", f"label_values({known}, namespace)", source),
        _query("cluster", f'label_values({known}{{namespace="$namespace"}}, ray_io_cluster)', source)
        | {"multi": True, "includeAll": True},
    ]


def panels() -> list[dict[str, Any]]:
    """Rows and their plots, laid out from left to right."""
    made: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        made.append(
            {"id": len(made) + 1, "type": "row", "title": title, "gridPos": _place(0, y, 24, 1), "panels": []}
        )
        for i, panel in enumerate(row):
            x, line = i % COLUMNS * WIDTH, i // COLUMNS * HEIGHT
            made.append(_plot(len(made) + 1, panel, _place(x, y + 1 + line, WIDTH, HEIGHT)))
        y += 1 + -(-len(row) // COLUMNS) * HEIGHT
    return made


def _plot(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + i), "datasource": source, "legendFormat": legend, "expr": expression}
            for i, (legend, expression) in enumerate(panel.lines)
        ],
    }


def _query(name: str, query: str, source: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "type": "query", "datasource": source, "query": query, "refresh": 2}


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}
