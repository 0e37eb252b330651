"""What a learner process does with a batch that is only partly fresh."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from learner.logged import Logged
from learner.process import LearnerProcess, ProcessRule
from learner.replay import ReplayRule
from learner.replays.prioritized import Prioritized
from rollout.trajectories import read_parquet
from rollout.types import Group
from rollout.watch_config import WatchConfig
from tests.learner.fakes_groups import group, trajectory
from tests.learner.fakes_stores import LIMITS, number, numbered, small_run


class FakeLearner:
    """Remembers what it was given; each group surprises by its number."""

    def __init__(self) -> None:
        self.given: list[tuple[Sequence[Group], Sequence[float] | None]] = []
        self.td_errors: list[float] | None = None

    def update(self, groups: Sequence[Group], importance: Sequence[float] | None) -> dict[str, float]:
        self.given.append((groups, importance))
        self.td_errors = [float(number(g)) for g in groups]
        return {"loss": 1.0}


def make_process(folder: Path, max_lag: int | None = None) -> tuple[LearnerProcess, FakeLearner, Prioritized]:
    rule = ProcessRule(
        max_lag=max_lag,
        weights_dtype=torch.float32,
        trajectories=folder / "trajectories",
        tokenizer="t",
        warm_up=None,
        seed=0,
        watch=WatchConfig(),
    )
    logged = Logged([small_run(folder / "earlier")], LIMITS)
    replay = Prioritized(
        Prioritized.Config(num_fresh=2, alpha=1.0, beta=1.0, epsilon=0.5),
        ReplayRule(groups_per_update=4, seed=0),
        logged,
    )
    learner = FakeLearner()
    make: Any = lambda lm: learner  # noqa: E731
    return LearnerProcess(rule, torch.nn.Linear(1, 1), make, replay), learner, replay  # type: ignore[arg-type]


def test_the_learner_is_given_the_whole_batch_and_what_each_group_weighs(tmp_path: Path) -> None:
    process, learner, replay = make_process(tmp_path)
    for version in range(3):
        process.accept(numbered(100 + 2 * version, 2))
        report = process.update(version)
    groups, importance = learner.given[-1]
    assert (len(groups), report.num_groups) == (4, 4)
    assert importance is not None
    assert min(importance) < max(importance) == 1.0
    # Fresh at update 1, so that it was told how much it surprised.
    assert replay._own.chance((0, 102)).priority == 102.5  # type: ignore[union-attr]
    assert report.metrics["loss"] == 1.0
    assert report.metrics["replay/batch_groups"] == 4.0


def test_only_what_is_fresh_is_reported_stored_and_watched(tmp_path: Path) -> None:
    process, _, _ = make_process(tmp_path)
    process.accept(numbered(100, 2))
    report = process.update(0)
    assert report.trained == ((0, 100), (0, 101))
    assert [number(g) for g in read_parquet(tmp_path / "trajectories")] == [100, 101]
    path = tmp_path / "trajectories" / "version=000000" / "groups.parquet"
    assert pq.ParquetFile(path).schema_arrow.metadata[b"tokenizer"] == b"t"
    assert report.metrics["watch/alarms_total"] == 0.0


def test_without_a_bound_on_lag_nothing_is_too_old(tmp_path: Path) -> None:
    old = [group(i, [trajectory([1], [2])], [float(i)], version=0) for i in range(2)]
    for max_lag, num_groups in ((None, 4), (3, 0)):
        process, _, _ = make_process(tmp_path / str(max_lag), max_lag)
        process.accept(old)
        report = process.update(4)
        assert (report.num_groups, len(report.stale)) == (num_groups, 0 if max_lag is None else 2)


def test_too_few_fresh_groups_are_no_update(tmp_path: Path) -> None:
    process, learner, _ = make_process(tmp_path)
    process.accept(numbered(0, 1))
    assert process.update(0).num_groups == 0
    assert learner.given == []
