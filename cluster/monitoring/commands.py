"""`antiphon dashboard`: writes the files for Prometheus and Grafana, and says how to open them."""

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cluster.run_dir import RunDir

console = Console(highlight=False)
PORT = 9090
GUIDE = """\
files: {folder}
now:   {now}

On this machine (Debian: prometheus; Grafana from grafana.com):
  prometheus --config.file={folder}/prometheus.yml --storage.tsdb.path={folder}/data \\
    --web.listen-address=127.0.0.1:{port}
  alerts: http://127.0.0.1:{port}/alerts
  GF_PATHS_PROVISIONING={folder}/grafana grafana server --homepath /usr/share/grafana
  dashboard: http://127.0.0.1:3000/d/antiphon-run
  curves without either: tensorboard --logdir {tensorboard}

In a Ray cluster: the same on a machine that reaches its nodes and sees the run directory. The file of targets
  follows nodes that come and go; the driver is in it if metrics.prometheus_host of the recipe can be reached.

On Kubernetes: k8s/components/monitoring has all of it for the Prometheus operator.
  kubectl -n monitoring port-forward service/monitoring-grafana 3000:80
  dashboard: http://127.0.0.1:3000/d/antiphon-run
"""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("dashboard")(show)


def show(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directories; one is usual.")],
    port: Annotated[int, typer.Option(help="Where your Prometheus will listen.")] = PORT,
) -> None:
    """Write alerts, a dashboard and a Prometheus configuration beside a run, and say how to open them."""
    from cluster.monitoring.files import write_files

    folders = [RunDir(path) for path in runs]
    for run in folders:
        run.load_recipe()
    folder = write_files(folders, f"http://127.0.0.1:{port}")
    _tell(folder, folders, port, lambda text: console.print(text, markup=False, soft_wrap=True))


def _tell(folder: Path, runs: Sequence[RunDir], port: int, say: Callable[[str], None]) -> None:
    quoted = shlex.quote(str(folder))
    tensorboard = shlex.quote(str(runs[0].tensorboard))
    urls = [url for run in runs for url in scraped_at(run)]
    now = ", ".join(urls) or "nothing to scrape: no run is under way, or metrics.prometheus_port is null"
    say(GUIDE.format(folder=quoted, now=now, port=port, tensorboard=tensorboard))


def scraped_at(run: RunDir) -> list[str]:
    """The endpoints of a run that is under way, as it says itself."""
    entries = json.loads(run.targets.read_text()) if run.targets.exists() else []
    return [f"http://{host}/metrics" for entry in entries for host in entry["targets"]]
