"""What one learner process holds, and the calls that reach it: from its Ray shell, or in one process.

accept(groups) -> replay -> update -> trajectory store of what was fresh -> pack(weights)

Of several ranks this is the first; what the others hold is in follower.py.
"""

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from antiphon.privacy import NOTHING_MASKED, Masker
from antiphon.seeds import derive
from learner.batch import Batch
from learner.learner import Learner
from learner.model import PolicyModel
from learner.ranks import ALONE, Ranks
from learner.replay import Replay
from learner.state import load_state, save_state
from learner.supervised import Pair, SupervisedConfig, supervise
from rollout.alarms import Alarm
from rollout.masking import store
from rollout.types import Group
from rollout.watch import Watch
from rollout.watch_config import WatchConfig
from rollout.weights import Weights

Key = tuple[int, int]
NUM_PROBES = 128
"""Pairs on which the supervised phase is measured."""
REPLAY = "replay"
"""The replay's folder in a checkpoint."""
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateReport:
    """How an update ended. With no group in its batch there was none: too few were fresh enough."""

    num_groups: int
    """Groups of the batch, fresh ones and others."""
    trained: tuple[Key, ...]
    """Keys of the fresh groups of the batch: each is here in one report, the first that it is trained in."""
    stale: tuple[Key, ...]
    """Keys of the groups that were too old and left the replay untrained."""
    metrics: dict[str, float]
    alarms: tuple[Alarm, ...] = ()
    """What the watch over the batch found worth a person's look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRule:
    """What the process needs to know of the run around it."""

    max_lag: int | None
    """Updates that fresh groups may be behind; None: nothing is too old to learn from."""
    weights_dtype: torch.dtype
    """In which weights travel."""
    trajectories: Path
    """The trajectory store of the run."""
    tokenizer: str
    """Fingerprint of the run's tokenizer, for those who read its trajectories later."""
    warm_up: SupervisedConfig | None
    seed: int
    watch: WatchConfig
    device: torch.device = CPU
    """Where a learner of one rank computes, in its supervised phase, too."""
    writing: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Around what is written into the store; it may refuse (antiphon/lease.py)."""
    masker: Masker = NOTHING_MASKED
    """The one with which the groups were masked before they came here."""


class LearnerProcess:
    """Replay and learner. The learner is made on first use: its reference is the model after the warm-up."""

    def __init__(
        self,
        rule: ProcessRule,
        lm: PreTrainedModel,
        make_learner: Callable[[PreTrainedModel], Learner],
        replay: Replay,
        pairs: Sequence[Pair] = (),
        ranks: Ranks = ALONE,
    ) -> None:
        self._rule = rule
        self._lm = lm
        self._make_learner = make_learner
        self._replay = replay
        self._pairs = pairs
        self._ranks = ranks
        self._watch = Watch(rule.watch)

    @cached_property
    def learner(self) -> Learner:
        return self._make_learner(self._lm)

    def warm_up(self, is_stopping: Callable[[], bool] = lambda: False) -> dict[str, float]:
        """The supervised phase; returns its last metrics, `accuracy` among them (see `expected_accuracy`).

        One that was stopped leaves a model that is of no use: nobody goes on from the middle of it.
        Of several ranks the first does it alone, where the model lies: no device need hold it whole.
        """
        config = self._rule.warm_up
        if config is None or "learner" in vars(self):
            raise ValueError("the warm-up comes before the first use of the learner, and needs a section")
        if self._ranks.num == 1:
            nn.Module.to(self._lm, self._rule.device)
        draw = random.Random(derive(self._rule.seed, "probes"))
        probes = draw.sample(list(self._pairs), min(NUM_PROBES, len(self._pairs)))

        def is_over(step: int, metrics: dict[str, float]) -> bool:
            if is_stopping():
                return True
            is_due = config.stop_at is not None and step % config.eval_every == 0
            return is_due and expected_accuracy(self._lm, probes) >= (config.stop_at or 1.0)

        metrics = supervise(self._lm, self._pairs, config, seed=self._rule.seed, on_step=is_over)
        return {**metrics, "accuracy": expected_accuracy(self._lm, probes)}

    def accept(self, groups: Sequence[Group]) -> None:
        """Keep groups for the coming updates."""
        for group in groups:
            self._replay.add(group)

    def update(self, version: int) -> UpdateReport:
        """Drop what is too old, learn from the next batch, and keep what was fresh in it.

        The watch looks at fresh groups alone: they show what the policy does now.
        """
        limit = self._rule.max_lag
        stale = () if limit is None else tuple(g.key for g in self._replay.sweep(version, limit))
        with self._ranks.together(f"update {version}"):
            if not self._replay.is_ready:
                if self._ranks.num > 1:
                    self.learner.skip()
                return UpdateReport(num_groups=0, trained=(), stale=stale, metrics={})
            draw = self._replay.draw(version)
            metrics = {**self.learner.update(draw.groups, draw.importance), **draw.metrics}
        self._replay.learn(draw, self.learner.td_errors)
        alarms: tuple[Alarm, ...] = ()
        if draw.fresh:
            rule = self._rule
            with rule.writing():
                store(draw.fresh, rule.trajectories, version, rule.tokenizer, rule.masker)
            seen = self._watch.look(draw.fresh, version + 1)
            metrics, alarms = {**metrics, **seen.metrics}, seen.alarms
        trained = tuple(g.key for g in draw.fresh)
        return UpdateReport(
            num_groups=len(draw.groups), trained=trained, stale=stale, metrics=metrics, alarms=alarms
        )

    def pack(self, version: int) -> Weights:
        """What actors play, as it travels to them."""
        with self._ranks.together(f"publication {version}"):
            return self.learner.weights(version, self._rule.weights_dtype)

    def save(self, folder: Path) -> None:
        """Write everything that has state into the folder."""
        with self._ranks.together("saving"):
            state = self.learner.state_dict()
        save_state(state, folder, "learner")
        self._replay.save(folder / REPLAY)
        save_state(self._watch.state_dict(), folder, "watch")

    def load(self, folder: Path) -> None:
        """Take up what `save` wrote."""
        with self._ranks.together("loading"):
            self.learner.load_state_dict(load_state(folder, "learner"))
        self._replay.load(folder / REPLAY)
        self._watch.load_state_dict(load_state(folder, "watch"))


@torch.no_grad()
def expected_accuracy(lm: PreTrainedModel, pairs: Sequence[Pair]) -> float:
    """How often sampling at temperature 1 would give exactly the target: the mean of Π_t p(target_t)."""
    logprob = PolicyModel(lm)(Batch.from_pairs(pairs).to(lm.device))["logprob"]
    return float(logprob.sum(-1).exp().mean())
