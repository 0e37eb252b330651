"""The supervised phase of a learner process, and how it is ended."""

from pathlib import Path

import torch

from learner.process import LearnerProcess, ProcessRule
from learner.replay import ReplayRule
from learner.replays.queue import FreshQueue
from learner.supervised import SupervisedConfig
from rollout.watch_config import WatchConfig
from tests.learner.fakes_models import tiny_llama

PAIRS = [((3, 4), (5, 2)), ((6,), (7, 8, 2))]


def make_process(num_steps: int) -> LearnerProcess:
    rule = ProcessRule(
        max_lag=0,
        weights_dtype=torch.float32,
        trajectories=Path("nowhere"),
        tokenizer="t",
        warm_up=SupervisedConfig(num_steps=num_steps, batch_size=2),
        seed=0,
        watch=WatchConfig(),
    )

    def make_learner(lm: object) -> None:
        raise AssertionError("the supervised phase needs no learner")

    replay = FreshQueue(FreshQueue.Config(), ReplayRule(groups_per_update=1, seed=0))
    return LearnerProcess(rule, tiny_llama(), make_learner, replay, PAIRS)


def test_the_supervised_phase_takes_its_steps() -> None:
    assert make_process(4).warm_up()["num_steps"] == 4.0


def test_a_supervised_phase_that_is_to_stop_takes_no_further_step() -> None:
    looks: list[int] = []

    def is_stopping() -> bool:
        looks.append(len(looks))
        return len(looks) == 3

    assert make_process(1000).warm_up(is_stopping)["num_steps"] == 3.0
