"""Makes what the Prometheus operator and Grafana's sidecar take out of the alerts and the dashboard of a run.

    python -m k8s.make_monitoring

tests/k8s compare the committed files with what this makes.
"""

import json
from pathlib import Path

from cluster.monitoring.board import dashboard
from cluster.monitoring.files import rules_text

FOLDER = Path(__file__).parent / "components/monitoring"
RULE = """\
# Made by `python -m k8s.make_monitoring` out of cluster/monitoring/rules.yaml.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: antiphon
  labels: {release: monitoring}
spec:
"""


def made() -> dict[Path, str]:
    """Every file that is made, with its text."""
    _, _, groups = rules_text().partition("groups:\n")
    body = "".join(f"  {line}" for line in f"groups:\n{groups}".splitlines(keepends=True))
    return {
        FOLDER / "prometheusrule.yaml": RULE + body,
        FOLDER / "dashboard.json": json.dumps(dashboard(), indent=2) + "\n",
    }


def main() -> None:
    for path, text in made().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
