"""Turns groups into better weights. Called by the actor shell, by the one-process assembly and by tests.

    groups -> Batch -> observe (log-probs, values, reference) -> algorithm.prepare -> steps -> metrics

It knows neither actors nor files: it offers weights and its state, and somebody else carries them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from antiphon.memory import keep_freed_memory
from antiphon.seeds import derive
from learner import metrics
from learner.algorithms.base import Algorithm
from learner.batch import Batch
from learner.batch_wire import receive_batch, send_batch
from learner.learner_config import LearnerConfig
from learner.micro_batches import MicroBatch, plan
from learner.mismatch import check_mismatch, check_sampling
from learner.model import PolicyModel, frozen_copy, in_training_precision
from learner.optimizer import Optimizer, Step
from learner.passes import accumulate, observe
from learner.priorities import mean_per_group, per_row
from learner.ranks import ALONE, Ranks
from learner.sharding import gathered, settle, shard, whole
from learner.tensors import copy_into, tensors_of
from rollout.room import Room
from rollout.types import Group, Sampling
from rollout.weights import Weights, pack


class Learner:
    """A model, an algorithm and an optimizer.

    Example:
        >>> learner = Learner(config, GRPO(GRPO.Config()), lm, sampling=Sampling(), num_updates=60, seed=0)
        >>> learner.update(groups)["loss/policy"]
        >>> learner.weights(version=learner.version)
    """

    def __init__(
        self,
        config: LearnerConfig,
        algorithm: Algorithm,
        lm: PreTrainedModel,
        *,
        sampling: Sampling,
        num_updates: int,
        seed: int,
        ranks: Ranks = ALONE,
    ) -> None:
        """`lm` is trained in place, in fp32 if it came in less; the reference, if any, is a copy of it as
        it is now, so whatever warms it up comes before. `num_updates` is the length of the run, where
        schedules end; `sampling` is how the actors draw. Of several `ranks` the first has the values of `lm`,
        and all of them are here at the same time, in the calls below, too.

        Raises:
            UserError: a sampling whose log-probs a learner cannot recompute, or a model it cannot take apart.
        """
        check_sampling(sampling, algorithm.is_off_policy)
        if config.num_threads is not None:
            torch.set_num_threads(config.num_threads)
        lm, device = in_training_precision(lm), config.torch_device
        settle(lm, device, ranks)
        if device.type == "cpu":
            keep_freed_memory()
        self._config, self._seed, self.algorithm, self._ranks = config, seed, algorithm, ranks
        temperature, share_prompts = sampling.temperature, config.share_prompts
        needs_reference = algorithm.needs_reference
        self.reference = frozen_copy(lm, temperature, share_prompts) if needs_reference else None
        with torch.random.fork_rng(devices=[]):
            # What else was drawn in this process must not change the run.
            torch.manual_seed(derive(seed, "heads"))
            heads = algorithm.heads(lm)
        self.model = PolicyModel(lm, heads, temperature=temperature, share_prompts=share_prompts)
        if ranks.num > 1:
            for model in filter(None, (self.reference, self.model)):
                shard(model, ranks, device, is_half=config.autocast == "bfloat16")
        self.optimizer = Optimizer(
            config.optimizer,
            ((f"lm.{n}", p) for n, p in self.model.lm.named_parameters()),
            ((f"heads.{n}", p) for n, p in self.model.heads.named_parameters()),
            num_updates=num_updates,
        )
        self._room = Room()
        self.version = 0
        """Updates done: the policy version that the next `update` starts from."""
        self.num_skipped = 0
        """Steps that were not taken because their gradient was not finite."""
        self.td_errors: list[float] | None = None
        """How much each group of the last update surprised, in the order in which the groups were given; None
        where the algorithm has no temporal differences."""

    def update(self, groups: Sequence[Group], importance: Sequence[float] | None = None) -> dict[str, float]:
        """Learn from these groups; the order in which they arrived has no influence.

        Args:
            importance: what each group weighs in losses of temporal differences, in the order of `groups`:
                a prioritised replay makes up for what it draws too often. None: all the same.

        Returns:
            Metrics by name: loss/…, policy/…, value/…, mismatch/…, lag/…, score/…, and others.

        Raises:
            MismatchError: before any weight has changed.
        """
        batch = Batch.from_groups(groups)
        if importance is not None:
            batch = batch.with_(importance=per_row(importance, groups, batch.group))
        send_batch(batch, self._ranks)
        batch, result = self._learn(batch)
        has_error = "td_error" in batch
        self.td_errors = mean_per_group(batch["td_error"], groups, batch.group) if has_error else None
        return result

    def follow(self) -> None:
        """What ranks do while the first one is in `update`, or in `skip`."""
        batch = receive_batch(self._ranks)
        if batch is not None:
            self._learn(batch)

    def skip(self) -> None:
        """Lets the ranks that follow go on without an update."""
        send_batch(None, self._ranks)

    def _learn(self, batch: Batch) -> tuple[Batch, dict[str, float]]:
        """The batch with all that became known about it, and the metrics; on every rank the same."""
        # An update that was refused may have left gradients behind.
        self.model.zero_grad()
        batch = batch.to(self.model.lm.device)
        steps = self._plan(batch)
        batch = self.algorithm.prepare(self._observe(batch, steps))
        tally, reports, precision = metrics.Tally(), [], self._config.autocast
        seen: dict[str, Tensor] = {}
        for micro_batches in steps:
            accumulate(self.model, self.algorithm, batch, micro_batches, precision, tally, seen, self._ranks)
            if len(steps) == 1:
                batch = self._with_proximal(batch, seen)
            reports.append(self.optimizer.step(self.version))
        batch = self._with_proximal(batch, seen)
        batch = batch.with_(**{name: x for name, x in seen.items() if name != "logprob"})
        result = self._report(batch, tally, reports)
        self.version += 1
        return batch, result

    def weights(self, version: int, dtype: torch.dtype | None = None) -> Weights:
        """What actors play, packed as policy version `version`: the language model, and the Q function that
        the algorithm plays beside it, if any. `dtype` is that of the wire; None keeps each tensor's own."""
        return pack(version, self.played(dtype), dtype, self._room)

    def played(self, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """The tensors that actors play; of several ranks the first has them, all others get empty ones."""
        return gathered(self.model.lm, self.algorithm.guide(), dtype, self._ranks)

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes while training; of several ranks the first has the tensors, whole. They are
        not copied: save before the next update.

        Nothing here draws from a random number generator: the order of minibatches derives from the seed.
        """
        return whole(self._state(), self._ranks)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`.

        Raises:
            ValueError: the state is of another model, algorithm or configuration; names what does not fit.
        """
        if state.keys() != self._state().keys():
            raise ValueError(f"learner state has {sorted(state)}, want {sorted(self._state())}")
        copy_into(self.model, state["model"])
        if self.reference is not None or state["reference"]:
            copy_into(self.reference or nn.Module(), state["reference"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.algorithm.load_state_dict(state["algorithm"])
        self.version, self.num_skipped = int(state["version"]), int(state["num_skipped"])

    def _state(self) -> dict[str, Any]:
        """The state as this rank has it."""
        return {
            "model": tensors_of(self.model),
            "reference": {} if self.reference is None else tensors_of(self.reference),
            "optimizer": self.optimizer.state_dict(),
            "algorithm": self.algorithm.state_dict(),
            "version": self.version,
            "num_skipped": self.num_skipped,
        }

    def _plan(self, batch: Batch) -> list[list[MicroBatch]]:
        config = self._config
        return plan(
            batch,
            num_epochs=config.num_epochs,
            num_minibatches=config.num_minibatches,
            max_tokens=config.max_tokens_per_micro_batch,
            share_prompts=self.model.share_prompts,
            seed=derive(self._seed, "minibatches", self.version),
        )

    def _observe(self, batch: Batch, steps: Sequence[Sequence[MicroBatch]]) -> Batch:
        """What models say about the batch before the first step, as far as somebody asks.

        With one step, the log-probs of that step are the proximal ones, and no pass is spent on them; nor
        off policy, where they are only reported. The parts are those of the first epoch: the same numbers,
        bit for bit, as the first step will see.
        """
        first_epoch = steps[: len(steps) // self._config.num_epochs]
        parts = [rows for micro_batches in first_epoch for rows in micro_batches]
        algorithm = self.algorithm
        is_asked = algorithm.needs_values or algorithm.needs_proximal
        if is_asked or (len(steps) > 1 and not algorithm.is_off_policy):
            streams = observe(self.model, batch, parts, self._config.autocast, self._ranks)
            streams["logprob_prox"] = streams.pop("logprob")
            batch = batch.with_(**streams)
            self._check_mismatch(batch)
        if self.reference is not None:
            logprob_ref = observe(self.reference, batch, parts, self._config.autocast, self._ranks)
            batch = batch.with_(logprob_ref=logprob_ref["logprob"])
        return batch

    def _with_proximal(self, batch: Batch, seen: Mapping[str, Tensor]) -> Batch:
        """With the log-probs that the steps saw as the proximal ones, unless it has some."""
        if "logprob_prox" not in batch:
            batch = batch.with_(logprob_prox=seen["logprob"])
            self._check_mismatch(batch)
        return batch

    def _check_mismatch(self, batch: Batch) -> None:
        if self.algorithm.is_off_policy:
            return
        check_mismatch(batch, self.version, self._config.max_mismatch, self._config.max_lagged_mismatch)

    def _report(self, batch: Batch, tally: metrics.Tally, reports: Sequence[Step]) -> dict[str, float]:
        taken = [r for r in reports if not r.is_skipped]
        self.num_skipped += len(reports) - len(taken)
        return {
            **tally.means(self._ranks),
            **self.algorithm.after_update(batch),
            **metrics.of_scores(batch),
            **metrics.of_lag(batch, self.version),
            **metrics.of_mismatch(batch),
            **metrics.of_advantages(batch),
            "grad_norm": sum(r.grad_norm for r in taken) / max(len(taken), 1),
            "lr": reports[-1].lr,
            "num_steps": float(len(taken)),
            "num_skipped": float(self.num_skipped),
            "num_action_tokens": float(batch.action_mask.sum()),
        }
