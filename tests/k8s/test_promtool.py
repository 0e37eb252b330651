"""Prometheus's own tool: the rules are well-formed, and fire or not at the numbers of alerts.test.yaml."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.k8s.kustomize import K8S, read

TESTS = Path(__file__).parent / "alerts.test.yaml"


@pytest.fixture
def promtool(tmp_path):
    """Runs promtool in a folder with the rules, as it reads them; returns what it said."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")

    def run(*words: str, with_annotations: bool = True) -> str:
        (document,) = read(K8S / "components/monitoring/prometheusrule.yaml")
        for group in document["spec"]["groups"]:
            for rule in group["rules"]:
                if not with_annotations:
                    # A test would have to repeat every sentence.
                    del rule["annotations"]
        (tmp_path / "rules.yaml").write_text(yaml.safe_dump(document["spec"]))
        (tmp_path / TESTS.name).write_text(TESTS.read_text())
        ended = subprocess.run(
            [program, *words], cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    return run


def test_the_rules_are_well_formed_with_their_sentences(promtool):
    assert "SUCCESS" in promtool("check", "rules", "rules.yaml")


def test_every_alert_fires_and_is_silent_when_it_should(promtool):
    assert "SUCCESS" in promtool("test", "rules", TESTS.name, with_annotations=False)
