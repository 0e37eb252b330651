"""What is written beside a run for Prometheus and Grafana, and what the command says of it."""

import json
import urllib.request

import pytest
import yaml

from antiphon.errors import UserError
from cluster.journal import Journal
from cluster.metrics import Prometheus
from cluster.monitoring.commands import scraped_at
from cluster.monitoring.files import rules_text, write_files
from cluster.monitoring.sink import Endpoint
from cluster.monitoring.targets import Targets
from cluster.run_dir import RunDir
from tests.system.fakes_runs import run_cli


@pytest.fixture
def run(tmp_path):
    made = RunDir(tmp_path / "a run")
    made.create({"run": {"name": "a run"}})
    return made


def told(run):
    return [
        (entry["labels"]["antiphon_role"], entry["targets"]) for entry in json.loads(run.targets.read_text())
    ]


def test_the_driver_and_the_nodes_are_told_apart_and_belong_to_one_run(run):
    Targets(run.targets, "a run").write("127.0.0.1:1", ["10.0.0.2:8080", "10.0.0.1:8080"])
    assert told(run) == [("driver", ["127.0.0.1:1"]), ("node", ["10.0.0.1:8080", "10.0.0.2:8080"])]
    labels = [entry["labels"] for entry in json.loads(run.targets.read_text())]
    assert {(found["namespace"], found["ray_io_cluster"]) for found in labels} == {("runs", "a run")}


def test_the_file_follows_nodes_and_is_left_alone_while_nothing_changes(run):
    targets = Targets(run.targets, "a run")
    targets.write("127.0.0.1:1", ["10.0.0.1:8080"])
    before = run.targets.stat().st_ino
    targets.write("127.0.0.1:1", ["10.0.0.1:8080"])
    assert run.targets.stat().st_ino == before, "a new file has a new number"
    targets.write("127.0.0.1:1")
    assert told(run) == [("driver", ["127.0.0.1:1"])]


def test_a_run_that_ends_is_no_target_and_one_that_was_replaced_leaves_its_successor_there(run):
    """Mutation: clear the file whoever wrote it last."""
    first, second = Targets(run.targets, "a run"), Targets(run.targets, "a run")
    first.write("127.0.0.1:1")
    second.write("127.0.0.1:2")
    first.close()
    assert told(run) == [("driver", ["127.0.0.1:2"])]
    second.close()
    assert told(run) == []


def test_every_update_looks_whether_nodes_came(run):
    prometheus = Prometheus("127.0.0.1", 0)
    nodes: list[str] = []
    endpoint = Endpoint(prometheus, Targets(run.targets, "a run"), lambda: nodes)
    endpoint.write(0, {})
    nodes.append("10.0.0.7:8080")
    endpoint.write(1, {"policy/kl": 0.5})
    assert told(run) == [("driver", [f"127.0.0.1:{prometheus.port}"]), ("node", ["10.0.0.7:8080"])]
    with urllib.request.urlopen(prometheus.url, timeout=10) as answer:
        assert "antiphon_policy_kl 0.5" in answer.read().decode()
    endpoint.close()
    assert told(run) == []


def test_an_endpoint_on_all_interfaces_is_named_by_its_machine(run):
    prometheus = Prometheus("0.0.0.0", 0)
    endpoint = Endpoint(prometheus, Targets(run.targets, "a run"), tuple)
    endpoint.write(0, {})
    ((_, (place,)),) = told(run)
    endpoint.close()
    host, _, port = place.rpartition(":")
    assert (host not in ("", "0.0.0.0"), int(port)) == (True, prometheus.port)


def test_the_files_hang_together(run, tmp_path):
    other = RunDir(tmp_path / "other")
    other.create({})
    folder = write_files([run, other], "http://127.0.0.1:9999")
    config = yaml.safe_load((folder / "prometheus.yml").read_text())
    assert config["rule_files"] == [str(folder / "rules.yaml")]
    assert (folder / "rules.yaml").read_text() == rules_text()
    (scrape,) = config["scrape_configs"]
    assert scrape["file_sd_configs"][0]["files"] == [str(run.targets), str(other.targets)]
    (provider,) = yaml.safe_load((folder / "grafana/dashboards/antiphon.yaml").read_text())["providers"]
    assert provider["options"]["path"] == str(folder / "grafana/dashboards")
    assert json.loads((folder / "grafana/dashboards/antiphon.json").read_text())["uid"] == "antiphon-run"
    (source,) = yaml.safe_load((folder / "grafana/datasources/antiphon.yaml").read_text())["datasources"]
    assert source["url"] == "http://127.0.0.1:9999"


def test_the_command_says_where_a_run_is_scraped_and_how_to_open_it(run, capsys):
    Targets(run.targets, "a run").write("127.0.0.1:4711")
    assert run_cli("dashboard", run.path, "--port", "9999") == 0
    said = capsys.readouterr().out
    assert "http://127.0.0.1:4711/metrics" in said
    assert f"--config.file='{run.path}/monitoring'/prometheus.yml" in said, "a path with a space is quoted"
    assert "http://127.0.0.1:9999/alerts" in said
    assert (run.monitoring / "prometheus.yml").exists()


def test_a_run_that_nobody_can_scrape_is_told_as_such(run, capsys):
    assert scraped_at(run) == []
    assert run_cli("dashboard", run.path) == 0
    assert "nothing to scrape" in capsys.readouterr().out


def test_a_folder_without_a_run_is_refused_and_nothing_is_written(tmp_path):
    assert run_cli("dashboard", tmp_path) == 2
    with pytest.raises(UserError, match="holds no run"):
        RunDir(tmp_path).load_recipe()
    assert list(tmp_path.iterdir()) == []


def test_a_phase_that_is_not_over_is_counted_up_to_now():
    """Mutation: count phases at their end. A learner that waits for ever would not be seen to wait."""
    journal = Journal()
    with journal.phase("wait"):
        first = journal.vitals()["run/wait_seconds_total"]
        second = journal.vitals()["run/wait_seconds_total"]
        assert 0.0 <= first <= second
    third = journal.vitals()["run/wait_seconds_total"]
    assert second <= third == journal.phases_s["wait"]


def test_the_numbers_of_an_update_say_how_long_each_phase_took_until_then():
    """Mutation: totals alone. benchmarks/overhead.py could not tell the first steps from the others."""
    journal = Journal()
    with journal.phase("learn"):
        pass
    numbers = journal.record_update(1, [])
    assert numbers["run/learn_seconds_total"] == journal.phases_s["learn"]
    assert "run/wall_seconds" in numbers
