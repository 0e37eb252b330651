"""The supervised phase of a learner process, and how it is ended."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import PreTrainedModel

from learner.process import LearnerProcess, ProcessRule
from learner.ranks import ALONE, Ranks
from learner.replay import ReplayRule
from learner.replays.queue import FreshQueue
from learner.supervised import SupervisedConfig
from rollout.watch_config import WatchConfig
from tests.learner.fakes_models import TableConfig, TableLM, tiny_llama

PAIRS = [((3, 4), (5, 2)), ((6,), (7, 8, 2))]


class MovedModel(TableLM):
    """Says where it is sent and when it is asked; it stays where it is."""

    def __init__(self, config: TableConfig) -> None:
        super().__init__(config)
        self.tape: list[str] = []
        self.model.register_forward_pre_hook(lambda *_: self.tape.append("asked"))

    def _apply(self, fn: Any, recurse: bool = True) -> "MovedModel":
        self.tape.append(f"sent to {fn(torch.empty(0)).device}")
        return self


def make_process(
    num_steps: int, lm: PreTrainedModel | None = None, device: str = "cpu", ranks: Ranks = ALONE
) -> LearnerProcess:
    rule = ProcessRule(
        max_lag=0,
        weights_dtype=torch.float32,
        trajectories=Path("nowhere"),
        tokenizer="t",
        warm_up=SupervisedConfig(num_steps=num_steps, batch_size=2),
        seed=0,
        watch=WatchConfig(),
        device=torch.device(device),
    )

    def make_learner(lm: object) -> None:
        raise AssertionError("the supervised phase needs no learner")

    replay = FreshQueue(FreshQueue.Config(), ReplayRule(groups_per_update=1, seed=0))
    return LearnerProcess(rule, lm or tiny_llama(), make_learner, replay, PAIRS, ranks)


def test_the_supervised_phase_takes_its_steps() -> None:
    assert make_process(4).warm_up()["num_steps"] == 4.0


def test_a_supervised_phase_that_is_to_stop_takes_no_further_step() -> None:
    looks: list[int] = []

    def is_stopping() -> bool:
        looks.append(len(looks))
        return len(looks) == 3

    assert make_process(1000).warm_up(is_stopping)["num_steps"] == 3.0


def test_the_supervised_phase_computes_where_the_learner_will() -> None:
    """The device "meta" stands for a GPU. Mutation: without the move the first entry is "asked"."""
    lm = MovedModel(TableConfig(vocab_size=9))
    make_process(1, lm, device="meta").warm_up()
    assert lm.tape[:2] == ["sent to meta", "asked"]


def test_of_several_ranks_the_first_warms_up_a_model_that_stays_where_it_is() -> None:
    """Its parts travel to the devices afterwards, from the processor. Mutation: moved whatever the ranks."""
    lm = MovedModel(TableConfig(vocab_size=9))
    make_process(1, lm, device="meta", ranks=Ranks(0, 2, dist.HashStore())).warm_up()
    assert set(lm.tape) == {"asked"}
