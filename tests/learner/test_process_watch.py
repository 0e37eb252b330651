"""The learner process looks at what it trains on, and goes on looking after a resume."""

from pathlib import Path

import torch

from learner.algorithms.ppo import PPO
from learner.learner import Learner, LearnerConfig
from learner.process import LearnerProcess, ProcessRule, UpdateReport
from learner.replay import ReplayRule
from learner.replays.queue import FreshQueue
from rollout.types import Sampling
from rollout.watch_config import WatchConfig
from tests.learner.fakes_models import table_lm
from tests.learner.fakes_play import play


def make_process(folder: Path) -> LearnerProcess:
    rule = ProcessRule(
        max_lag=0,
        weights_dtype=torch.float32,
        trajectories=folder / "trajectories",
        tokenizer="t",
        warm_up=None,
        seed=0,
        watch=WatchConfig(window=2, duplicates_in_batch=0.5),
    )

    def make_learner(lm: torch.nn.Module) -> Learner:
        return Learner(
            LearnerConfig(), PPO(PPO.Config()), lm, sampling=Sampling(max_new_tokens=2), num_updates=9, seed=0
        )

    replay = FreshQueue(FreshQueue.Config(), ReplayRule(groups_per_update=4, seed=0))
    return LearnerProcess(rule, table_lm(torch.zeros(4, 4)), make_learner, replay)


def step(process: LearnerProcess, version: int) -> UpdateReport:
    process.accept(play(process.learner.model.lm, version, lambda ids: float(ids[0])))
    return process.update(version)


def test_the_report_of_an_update_carries_what_the_watch_saw(tmp_path: Path) -> None:
    # All completions of the fake are the empty text, so that every one was also given to another prompt.
    process = make_process(tmp_path)
    first, second = step(process, 0), step(process, 1)
    assert first.metrics["watch/duplicates_in_batch"] == 1.0
    assert first.alarms == ()
    assert [(a.name, a.version) for a in second.alarms] == [("duplicates_in_batch", 2)]


def test_without_enough_groups_nothing_is_looked_at(tmp_path: Path) -> None:
    report = make_process(tmp_path).update(0)
    assert (report.metrics, report.alarms) == ({}, ())


def test_the_watch_is_part_of_the_checkpoint(tmp_path: Path) -> None:
    stopped, resumed = make_process(tmp_path), make_process(tmp_path)
    step(stopped, 0)
    stopped.save(tmp_path / "checkpoint")
    resumed.load(tmp_path / "checkpoint")
    # One update before and one after fill the window of two.
    assert [a.version for a in step(resumed, 1).alarms] == [2]
