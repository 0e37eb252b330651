"""Makes the Grafana dashboard of a run out of the list of panels below.

    python -m k8s.make_dashboard

tests/k8s compare the committed file with what this makes, parse every expression, and look for every metric
in the code. Names behind the PodMonitor's relabelling (component, reason, status) are those that stand here.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "components/monitoring/dashboard.json"
ONE = '{namespace="$namespace", ray_io_cluster=~"$cluster"}'
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
ROWS: dict[str, Sequence[Panel]] = {
    "Health": (
        gauges("Version", "none", "policy_version"),
        Panel("Since the last update", "s", [(PER_RUN, f"time() - {of('policy_update_time_seconds')}")]),
        Panel("Updates an hour", "none", [(PER_RUN, f"3600 * deriv({of('policy_version')}[30m])")]),
        rates("Completion tokens", "cps", "rollout_completion_tokens_total"),
    ),
    "Learning": (
        gauges("Reward", "none", "reward_mean", "reward_std"),
        gauges("Groups with equal rewards", "percentunit", "reward_constant_groups"),
        gauges("Distance from the reference, nats per token", "none", "policy_kl", "policy_approx_kl"),
        gauges("Entropy, nats per token", "none", "policy_entropy", "rollout_entropy"),
        gauges("Clipped", "percentunit", "policy_clip_fraction", "value_clip_fraction"),
        gauges("Gradient norm", "none", "grad_norm"),
        gauges("Losses", "none", "loss_policy", "loss_value", "loss_q"),
        gauges("Skipped steps", "none", "num_skipped"),
        gauges("Completion length, tokens", "none", "length_mean", "length_max"),
        gauges("Completions that do not end", "percentunit", "rollout_truncated"),
        gauges("Effective sample size", "none", "ess"),
        gauges("Learning rate", "sci", "lr"),
    ),
    "Pipeline": (
        gauges("Age of what is learned from, updates", "none", "rollout_lag_mean", "rollout_lag_max"),
        gauges("Sampler against learner, nats", "none", "mismatch_mean", "mismatch_p99"),
        rates("Samples", "cps", "rollout_samples_total"),
        rates("Dropped groups, by reason", "cps", "rollout_dropped_total", "reason"),
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


def text() -> str:
    """The file's text."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
