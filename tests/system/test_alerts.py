"""Alerts fire in a real Prometheus that scrapes real runs into which the fault is put.

Times in the rules are divided by 150 (see HURRIES for those that need longer to be seen). The faults stay, or
come again, until the alert has fired: a slow machine only makes it later. That an alert is silent before its
fault is looked at where a healthy run cannot look sick for want of processor time; see test_promtool.py.
"""

import threading
from pathlib import Path

import pytest
import yaml

from cluster.monitoring.files import rules_text
from tests.system.fakes_faults import FAULT, Turned
from tests.system.fakes_prometheus import metrics_in, real_prometheus, rest, served, targets

pytestmark = pytest.mark.timeout(900)

HURRIES = {"AntiphonGone": 30}
THRESHOLDS = {"AntiphonStalled": ("> 1800", "> 12"), "AntiphonScoresSlow": ("> 30", "> 0.05")}
"""Thresholds that are times."""
RULES = [rule for group in yaml.safe_load(rules_text())["groups"] for rule in group["rules"]]


@pytest.fixture(autouse=True)
def no_fault():
    yield
    FAULT.reward, FAULT.is_deaf, FAULT.is_stalled = "", False, False


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def runs(model, folder):
    """One run per kind of fault, all up and healthy."""
    lax = {"max_mismatch": None, "max_lagged_mismatch": None}
    made = {
        "learning": {
            "algorithm": {"name": "ppo", "kl": {"place": "loss"}},
            "learner": {**lax, "optimizer": {"lr": 0.02}},
        },
        "leaping": {"learner": {**lax, "optimizer": {"lr": 0.5}}},
        "rewards": {"learner": {"optimizer": {"lr": 1e-6}}, "watch": {"window": 2, "constant_updates": 1}},
        "paused": {"rollout": {"max_failed_share": 0.1, "probe_every_s": 999.0, "pause_deadline_s": 9999.0}},
        "lagging": {"rollout": {"max_lag": 10, "num_actors": 40, "groups_per_task": 1}},
        "stalling": {},
        "falling": {},
    }
    opened = {name: Turned(name, model, folder, **changes) for name, changes in made.items()}
    yield opened
    for run in opened.values():
        run.close()


@pytest.fixture(scope="module")
def prometheus(runs):
    with real_prometheus([run.run_dir for run in runs.values()], HURRIES, THRESHOLDS) as asked:
        for run in runs.values():
            # Adam's first step moves every weight by the whole learning rate; those that follow may be small.
            run.start(1 if run.name == "leaping" else 2)
        for name in runs:
            seen = f'count_over_time(antiphon_run_paused{{ray_io_cluster="{name}"}}[1h]) > 2'
            asked.until(lambda seen=seen: bool(asked.query(seen)), rest, f"{name} is scraped")
        yield asked
        assert asked.errors() == set(), "every rule was evaluated"


@pytest.fixture
def fires(prometheus):
    """Acts until the alert has fired for the run."""

    def wait(alert, run, act=rest):
        prometheus.until(lambda: prometheus.has_fired(alert, run), act, alert)

    return wait


def silent(prometheus, run, *alerts):
    assert [alert for alert in alerts if prometheus.has_fired(alert, run)] == []


def test_the_metrics_of_all_alerts_are_served_by_a_healthy_run(runs):
    """Without any fault: an alert on a count that is not there before it rises misses the first rise.

    Mutation: serve only what an update brings; the counts of failures are then not there.
    """
    for name in ("learning", "rewards"):
        runs[name].start()
    names = {n for name in ("learning", "rewards") for n in served(*targets(runs[name].run_dir, "driver"))}
    asked = {m for rule in RULES for m in metrics_in(rule["expr"]) if m.startswith("antiphon_")}
    assert len(asked) > 20
    assert asked - names == set()


def test_a_policy_that_breaks_is_seen(runs, prometheus, fires):
    """A learning rate that is far too high; weights that do not reach the engine, and logits that explode."""
    fires("AntiphonStepsTooLarge", "leaping")
    run = runs["learning"]
    silent(prometheus, run.name, "AntiphonMismatch", "AntiphonEntropyCollapse")
    FAULT.is_deaf = True
    run.turn_until("mismatch/mean", lambda nats: nats > 0.03)
    fires("AntiphonMismatch", run.name)
    FAULT.is_deaf = False
    run.sharpen(1000.0)
    run.turn_until("policy/entropy", lambda nats: nats < 0.1)
    fires("AntiphonEntropyCollapse", run.name)
    run.turn_until("policy/kl", lambda nats: nats > 0.5)
    fires("AntiphonKlHigh", run.name)


def test_steps_that_are_not_finite_are_seen(runs, prometheus, fires):
    run = runs["rewards"]
    silent(prometheus, run.name, "AntiphonStepsSkipped")
    FAULT.reward = "huge"
    fires("AntiphonStepsSkipped", run.name, run.turn)


def test_completions_that_do_not_end_are_seen(runs, fires):
    """The small model is untrained: it never ends within its 4 tokens."""
    fires("AntiphonTruncated", runs["rewards"].name)


def test_rewards_that_tell_nothing_or_cost_too_much_time_are_seen(runs, prometheus, fires):
    run = runs["rewards"]
    silent(prometheus, run.name, "AntiphonRewardConstant", "AntiphonRewardHacking", "AntiphonScoresSlow")
    FAULT.reward = "equal"
    fires("AntiphonRewardHacking", run.name, run.turn)
    fires("AntiphonRewardConstant", run.name, run.turn)
    FAULT.reward = "slow"
    fires("AntiphonScoresSlow", run.name, run.turn)


def test_samples_without_a_score_are_seen(runs, prometheus, fires):
    run = runs["rewards"]
    silent(prometheus, run.name, "AntiphonScoresFail", "AntiphonSamplesDropped")
    FAULT.reward = "fails for half"
    fires("AntiphonScoresFail", run.name, run.turn)
    fires("AntiphonSamplesDropped", run.name, run.turn)


def test_a_run_that_waits_for_its_rewards_is_seen(runs, prometheus, fires):
    run = runs["paused"]
    silent(prometheus, run.name, "AntiphonPaused")
    FAULT.reward = "fails"
    fires("AntiphonPaused", run.name, run.loop.pump)


def test_samples_that_are_too_old_are_seen(runs, prometheus, fires):
    """40 tasks are given out at version 0, of which 4 are learned from in each update."""
    run = runs["lagging"]
    silent(prometheus, run.name, "AntiphonStalePolicy")
    while run.loop.journal.max_lag_seen < 9:
        run.turn()
    fires("AntiphonStalePolicy", run.name)


def test_a_run_that_stands_still_and_one_that_goes_away_are_seen(runs, prometheus, fires):
    run = runs["stalling"]
    rising = f'deriv(antiphon_policy_version{{ray_io_cluster="{run.name}"}}[144s] offset 12s) > 0'
    prometheus.until(lambda: bool(prometheus.query(rising)), run.turn, "updates are half an hour old")
    FAULT.is_stalled = True
    turning = threading.Thread(target=run.turn)
    turning.start()
    try:
        for alert in ("AntiphonStalled", "AntiphonSlowing", "AntiphonLearnerStarved"):
            fires(alert, run.name)
    finally:
        FAULT.is_stalled = False
        FAULT.go_on.set()
        turning.join()
    run.close()
    fires("AntiphonGone", run.name)


def test_a_reward_that_falls_is_seen(runs, prometheus, fires):
    """An hour of a rule is 24 s here. Again from the beginning, if the machine slept in between."""
    run = runs["falling"]
    mean = f'antiphon_reward_mean{{ray_io_cluster="{run.name}"}}'

    def was_good():
        return bool(prometheus.query(f"changes({mean}[48s] offset 24s) > 10"))

    def is_over():
        fired = prometheus.has_fired("AntiphonRewardCollapse", run.name)
        return fired or bool(prometheus.query(f"max_over_time({mean}[6s] offset 24s) < 0"))

    def rise_and_fall():
        FAULT.reward = ""
        prometheus.until(was_good, run.turn, "good rewards are an hour old")
        FAULT.reward = "low"
        run.turn()
        prometheus.until(is_over, rest, "bad rewards are an hour old")

    silent(prometheus, run.name, "AntiphonRewardCollapse")
    fires("AntiphonRewardCollapse", run.name, rise_and_fall)


def test_every_alert_of_a_run_is_shown_to_fire_here_or_on_ray():
    """Those of nodes are about a machine that is full, which no test should bring about."""
    files = (Path(__file__), Path(__file__).with_name("test_watched_ray.py"))
    shown = "".join(file.read_text() for file in files)
    unseen = {rule["alert"] for rule in RULES if f'"{rule["alert"]}"' not in shown}
    assert unseen == {f"AntiphonNode{what}" for what in ("Memory", "Disk", "sPending")}
