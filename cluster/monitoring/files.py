"""Writes what Prometheus and Grafana need to show runs, beside the first. Called by `antiphon dashboard`.

runs/NAME/monitoring/  prometheus.yml  rules.yaml  targets.json (by the run itself)
                       grafana/dashboards/{antiphon.json,antiphon.yaml}  grafana/datasources/antiphon.yaml
"""

import json
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from cluster.monitoring.board import dashboard
from cluster.run_dir import RunDir, write_atomically

TOKEN_FILE = "ANTIPHON_METRICS_TOKEN_FILE"
"""Names the file with the token of scrapers; Prometheus reads it itself, so that no copy is written."""
SCRAPE_INTERVAL = "5s"
"""Shorter than the 15 s of the PodMonitor: a run on a laptop may be over in a minute."""
WITHOUT_PREFIX = {"source_labels": ["__name__"], "regex": "ray_(antiphon_.+)", "target_label": "__name__"}
"""Ray puts `ray_` before the numbers of processes; under their own names they are found."""


def rules_text() -> str:
    """The alerts, as Prometheus reads them."""
    return files("cluster.monitoring").joinpath("rules.yaml").read_text()


def prometheus_config(targets: Sequence[Path], rules: Path, token_file: Path | None = None) -> dict[str, Any]:
    """A Prometheus that follows these files of targets, and shows the token in `token_file`."""
    scrape: dict[str, Any] = {
        "job_name": "antiphon",
        "file_sd_configs": [{"files": [str(path) for path in targets], "refresh_interval": "5s"}],
        "metric_relabel_configs": [WITHOUT_PREFIX | {"replacement": "$1"}],
    }
    if token_file is not None:
        scrape["authorization"] = {"type": "Bearer", "credentials_file": str(token_file)}
    return {
        "global": {"scrape_interval": SCRAPE_INTERVAL, "evaluation_interval": SCRAPE_INTERVAL},
        "rule_files": [str(rules)],
        "scrape_configs": [scrape],
    }


def write_files(runs: Sequence[RunDir], prometheus_url: str) -> Path:
    """Everything but targets.json, into the folder `monitoring` of the first run; returns that folder.

    Files are written anew each time: they hold absolute paths, and the alerts of this version of the code.
    """
    folder = runs[0].monitoring.resolve()
    grafana = folder / "grafana"
    named = os.environ.get(TOKEN_FILE)
    token_file = Path(named).resolve() if named else None
    config = prometheus_config([run.targets.resolve() for run in runs], folder / "rules.yaml", token_file)
    _write(folder / "rules.yaml", rules_text())
    _write(folder / "prometheus.yml", yaml.safe_dump(config, sort_keys=False))
    _write(grafana / "dashboards/antiphon.json", json.dumps(dashboard(), indent=2) + "\n")
    _write(grafana / "dashboards/antiphon.yaml", yaml.safe_dump(_provider(grafana / "dashboards")))
    _write(grafana / "datasources/antiphon.yaml", yaml.safe_dump(_source(prometheus_url)))
    return folder


def _provider(folder: Path) -> dict[str, Any]:
    """Tells Grafana to load the dashboards of a folder."""
    return {
        "apiVersion": 1,
        "providers": [{"name": "antiphon", "type": "file", "options": {"path": str(folder)}}],
    }


def _source(url: str) -> dict[str, Any]:
    """Tells Grafana where Prometheus is."""
    source = {"name": "Antiphon", "type": "prometheus", "access": "proxy", "url": url, "isDefault": True}
    return {"apiVersion": 1, "datasources": [source]}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)
