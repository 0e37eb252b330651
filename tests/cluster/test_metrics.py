"""The sinks of an update's numbers, and what a resumed run keeps of an earlier attempt."""

import json
import math
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cluster.metrics import (
    JsonLines,
    MetricsConfig,
    Prometheus,
    TensorBoard,
    open_sinks,
    prometheus_name,
    series,
)


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(sink, *versions):
    for version in versions:
        sink.write(version, {"loss/policy": version / 10})
    sink.close()


def test_every_update_is_one_line_of_json(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(JsonLines(path), 1, 2)
    assert [(line["version"], line["loss/policy"]) for line in read(path)] == [(1, 0.1), (2, 0.2)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_cannot_hold_is_null(tmp_path, value):
    path = tmp_path / "metrics.jsonl"
    sink = JsonLines(path)
    sink.write(1, {"loss": value})
    sink.close()
    assert read(path)[0]["loss"] is None


def test_a_resumed_run_forgets_the_versions_that_it_makes_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(JsonLines(path), 0, 1, 2, 3)
    write(JsonLines(path, resumed_at=2), 3, 4)
    assert [line["version"] for line in read(path)] == [0, 1, 2, 3, 4]


def test_a_line_that_was_cut_short_by_a_kill_is_dropped_at_the_resume(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(JsonLines(path), 1)
    with path.open("a") as file:
        file.write('{"version": 2, "lo')
    write(JsonLines(path, resumed_at=1), 2)
    assert [line["version"] for line in read(path)] == [1, 2]


def scalars(folder):
    accumulator = EventAccumulator(str(folder), purge_orphaned_data=True)
    accumulator.Reload()
    return [(event.step, round(event.value, 3)) for event in accumulator.Scalars("loss/policy")]


def test_tensorboard_reads_every_number_under_its_own_name(tmp_path):
    write(TensorBoard(tmp_path), 1, 2)
    assert scalars(tmp_path) == [(1, 0.1), (2, 0.2)]


def test_tensorboard_shows_a_repeated_version_once(tmp_path):
    write(TensorBoard(tmp_path / "a"), 1, 2, 3)
    sink = TensorBoard(tmp_path / "a", resumed_at=2)
    sink.write(3, {"loss/policy": 0.9})
    sink.close()
    assert scalars(tmp_path / "a") == [(1, 0.1), (2, 0.2), (3, 0.9)]


def scrape(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {sample.name: (family.type, sample.value) for family in families for sample in family.samples}


@pytest.fixture
def prometheus():
    sink = Prometheus("127.0.0.1", 0)
    yield sink
    sink.close()


def test_a_scrape_sees_the_newest_values_as_gauges_and_totals_as_counters(prometheus):
    prometheus.write(1, {"policy/kl": 0.1, "rollout/samples_total": 8.0})
    prometheus.write(2, {"policy/kl": 0.2, "rollout/samples_total": 16.0})
    seen = scrape(prometheus.url)
    assert seen["antiphon_policy_kl"] == ("gauge", 0.2)
    assert seen["antiphon_rollout_samples_total"] == ("counter", 16.0)
    assert seen["antiphon_policy_version"] == ("gauge", 2.0)


def test_a_number_that_one_update_lacks_keeps_its_last_value(prometheus):
    prometheus.write(1, {"eval/reward": 0.5})
    prometheus.write(2, {"policy/kl": 0.2})
    assert scrape(prometheus.url)["antiphon_eval_reward"] == ("gauge", 0.5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rollout/dropped_score_error_total", ("antiphon_rollout_dropped_total", {"reason": "score_error"})),
        ("reward/failed_timeout_total", ("antiphon_reward_failed_total", {"status": "timeout"})),
        ("rewards/my judge/scores/num_ok", ("antiphon_rewards_scores_num_ok", {"component": "my judge"})),
        ("run/wait_seconds_total", ("antiphon_run_seconds_total", {"phase": "wait"})),
        ("reward/failed_by_length/3-4", ("antiphon_reward_failed_by_length_3_4", {})),
        ("reward/rougeL", ("antiphon_reward_rougeL", {})),
    ],
)
def test_reasons_statuses_components_and_phases_are_labels(name, expected):
    assert series(name) == expected


def test_series_of_one_name_are_told_together(prometheus):
    """Mutation: a family for each series; a scraper then refuses the second as a repetition."""
    prometheus.write(1, {"rollout/dropped_stale_total": 3.0, "rollout/dropped_constant_total": 4.0})
    with urllib.request.urlopen(prometheus.url, timeout=10) as answer:
        text = answer.read().decode()
    families = [f for f in text_string_to_metric_families(text) if "dropped" in f.name]
    assert text.count("# TYPE antiphon_rollout_dropped_total") == 1
    assert [{s.labels["reason"]: s.value for s in f.samples} for f in families] == [
        {"stale": 3.0, "constant": 4.0}
    ]


def test_a_scrape_asks_what_is_true_at_the_moment(prometheus):
    moments = iter([{"run/paused": 0.0}, {"run/paused": 1.0, "policy/kl": 9.0}])
    prometheus.write(1, {"policy/kl": 0.1})
    prometheus.watch(lambda: next(moments))
    assert scrape(prometheus.url)["antiphon_run_paused"] == ("gauge", 0.0)
    later = scrape(prometheus.url)
    assert (later["antiphon_run_paused"], later["antiphon_policy_kl"]) == (("gauge", 1.0), ("gauge", 9.0))


def test_a_fresh_run_shows_zeros_from_which_counts_can_rise_and_one_that_goes_on_does_not(prometheus):
    """Mutation: zeros always. The 3 skipped steps of a resumed run would look like 3 new ones."""
    prometheus.begin(5, is_fresh=False)
    seen = scrape(prometheus.url)
    assert seen["antiphon_policy_version"] == ("gauge", 5.0)
    assert "antiphon_num_skipped" not in seen
    prometheus.begin(0, is_fresh=True)
    assert scrape(prometheus.url)["antiphon_num_skipped"] == ("gauge", 0.0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("policy/kl", "antiphon_policy_kl"), ("reward/rougeL", "antiphon_reward_rougeL")],
)
def test_names_become_what_prometheus_allows(name, expected):
    assert prometheus_name(name) == expected


def test_the_recipe_chooses_the_sinks(tmp_path):
    config = MetricsConfig(tensorboard=False, prometheus_port=None)
    (only,) = open_sinks(config, tmp_path / "m.jsonl", tmp_path / "tb")
    only.close()
    assert isinstance(only, JsonLines)
    assert not (tmp_path / "tb").exists()
