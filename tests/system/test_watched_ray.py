"""A run on Ray: every process serves its numbers, and what happens to its actors is counted and alerted."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from cluster.monitoring.board import dashboard
from cluster.monitoring.files import rules_text
from tests.system.fakes_prometheus import metrics_in, real_prometheus, rest, served, targets

pytest.importorskip("ray")
faults = pytest.importorskip("tests.system.fakes_faults")

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

HURRIES = {"AntiphonActorsReplaced": 1, "AntiphonWeightsRefused": 1}
"""They fire as soon as enough has happened within half an hour: a longer window costs no time."""
NOT_HERE = {
    "antiphon_loss_q",  # of the algorithms with Q heads
    "ray_node_gpus_utilization",
    "autoscaler_active_nodes",
    "autoscaler_pending_nodes",
}
REPORT_S = 1.0
"""How often Ray's processes report to the endpoint of their node."""
COUNTED = ("actors_replaced_total", "weights_refused_total", "actors_current", "actors")
DEADLINE_S = 240.0


@pytest.fixture(scope="module")
def marks(tmp_path_factory):
    return tmp_path_factory.mktemp("marks")


@pytest.fixture(scope="module")
def run(model, marks, ray_environment, tmp_path_factory):
    engine = {"name": f"{faults.__name__}:MarkedEngine", "folder": str(marks)}
    ray_environment.setenv("RAY_metrics_report_interval_ms", str(int(1000 * REPORT_S)))
    made = faults.Turned(
        "on-ray",
        model,
        tmp_path_factory.mktemp("runs"),
        algorithm={"name": "ppo", "kl": {"place": "loss"}},
        rollout={"num_actors": 2, "engine": engine},
        # Nobody is given up on a busy machine.
        cluster={"mode": "ray", "start_deadline_s": 900.0},
    )
    yield made.start(2)
    made.close()


def wait_until(is_so, act, what):
    deadline_s = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline_s, what()
        act()


def of_node(run):
    (node,) = targets(run.run_dir, "node")
    return served(node)


def of_driver(run):
    (driver,) = targets(run.run_dir, "driver")
    return served(driver)


def counted(run):
    now = of_driver(run)
    return [now[f"antiphon_rollout_{name}"] for name in COUNTED]


def test_no_panel_and_no_alert_asks_for_what_nobody_serves(run, tmp_path):
    """The driver has it, or Ray's endpoint of the node. Mutation: rename a meter of the learner."""
    run.loop.save(tmp_path)
    panels = [p for p in dashboard()["panels"] if p["type"] != "row"]
    rules = [rule for group in yaml.safe_load(rules_text())["groups"] for rule in group["rules"]]
    texts = [target["expr"] for panel in panels for target in panel["targets"]]
    asked = {m for text in [*texts, *(rule["expr"] for rule in rules)] for m in metrics_in(text)}
    assert len(asked) > 50

    def missing():
        return asked - NOT_HERE - {*of_driver(run), *of_node(run)}

    wait_until(lambda: not missing(), rest, lambda: f"not served: {sorted(missing())}")


def test_what_actors_and_learner_count_of_themselves_is_what_the_driver_knows(run):
    """Two updates of four groups, two groups a task: four tasks by both actors together.

    Mutations: count a task twice; set the version before the weights are in.
    """
    driver = of_driver(run)
    wanted = {
        "antiphon_actor_tasks_total": 4.0,
        "antiphon_actor_completion_tokens_total": driver["antiphon_rollout_completion_tokens_total"],
        # The sum over two actors.
        "antiphon_actor_policy_version": 2 * 2.0,
        "antiphon_learner_policy_version": 2.0,
    }

    def told():
        now = of_node(run)
        return {name: now.get(name) for name in wanted}

    wait_until(lambda: told() == wanted, rest, lambda: f"{told()} instead of {wanted}")


def test_the_weights_that_actors_hold_stay_visible_while_no_others_come(run):
    """Ray's endpoint forgets a gauge two reports after it was told last. Mutation: set gauges once."""
    time.sleep(3.0 * REPORT_S)
    wait_until(lambda: "antiphon_actor_policy_version" in of_node(run), rest, lambda: "it has vanished")


@pytest.fixture(scope="module")
def prometheus(run):
    with real_prometheus([run.run_dir], HURRIES) as asked:
        asked.until(lambda: bool(asked.query("antiphon_rollout_actors == 2")), rest, "the run is scraped")
        asked.until(lambda: bool(asked.query("antiphon_actor_tasks_total")), rest, "its node is scraped")
        yield asked
        assert asked.errors() == set(), "every rule was evaluated"


def test_actors_without_work_and_actors_without_weights_are_seen(run, marks, prometheus):
    """Nobody turns the loop, so that nobody is given work; then an update that no actor confirms."""

    def fires(alert):
        prometheus.until(lambda: prometheus.has_fired(alert, run.name), rest, alert)

    fires("AntiphonActorsIdle")
    assert not prometheus.has_fired("AntiphonActorsNotReady", run.name)
    (marks / "wait").touch()
    with ThreadPoolExecutor(1) as threads:
        turned = threads.submit(run.turn)
        try:
            fires("AntiphonActorsNotReady")
        finally:
            (marks / "wait").unlink()
    turned.result()


@pytest.fixture(scope="module")
def harmed(run, marks):
    """An actor is killed at its work; when two are there again, each says that it holds other weights."""

    def all_are_there():
        return counted(run)[2:] == [2.0, 2.0]

    (marks / "die").touch()
    run.turn()
    wait_until(all_are_there, run.loop.pump, lambda: f"still {counted(run)}")
    after_death = counted(run)
    (marks / "lie_1").touch()
    (marks / "lie_2").touch()
    run.turn()
    wait_until(all_are_there, run.loop.pump, lambda: f"still {counted(run)}")
    return after_death


def test_actors_that_are_replaced_and_weights_that_are_refused_are_counted(run, harmed):
    """Who dies at work held the current weights: it is replaced, and has refused nothing.

    Mutations: count nothing when an actor is replaced; count every one of them as a refusal.
    """
    assert harmed == [1.0, 0.0, 2.0, 2.0]
    assert counted(run) == [3.0, 2.0, 2.0, 2.0]


def test_actors_that_are_replaced_and_weights_that_are_refused_are_alerted(run, prometheus, harmed):
    for alert in ("AntiphonActorsReplaced", "AntiphonWeightsRefused"):
        prometheus.until(lambda alert=alert: prometheus.has_fired(alert, run.name), rest, alert)
