"""Turns groups into better weights. Called by the actor shell, by the one-process assembly and by tests.

    groups -> Batch -> observe (log-probs, values, reference) -> algorithm.prepare -> steps -> metrics

It knows neither actors nor files: it offers weights and its state, and somebody else carries them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import PreTrainedModel

from antiphon.memory import keep_freed_memory
from antiphon.seeds import derive
from antiphon.settings import Settings
from learner import metrics
from learner.algorithms.base import Algorithm
from learner.batch import Batch
from learner.micro_batches import MicroBatch, plan
from learner.mismatch import check_mismatch, check_sampling
from learner.model import PolicyModel, frozen_copy
from learner.optimizer import Optimizer, OptimizerConfig, Step
from learner.passes import Precision, accumulate, observe
from learner.priorities import mean_per_group, per_row
from learner.tensors import copy_into, tensors_of
from rollout.types import Group, Sampling
from rollout.weights import Weights, pack, together


class LearnerConfig(Settings):
    """How an update is computed; what it optimises is the algorithm's business."""

    num_epochs: int = Field(1, ge=1)
    """Passes over the batch of an update."""
    num_minibatches: int = Field(1, ge=1)
    """Optimizer steps per pass. One epoch of one minibatch needs no pass for proximal log-probs."""
    max_tokens_per_micro_batch: int = Field(2048, ge=1)
    """Tokens, padding included, that go through the model at once: the bound on memory. No result depends
    on it."""
    share_prompts: bool = True
    """Compute a prompt once for all its completions, where the model's attention allows it."""
    optimizer: OptimizerConfig = OptimizerConfig()
    autocast: Precision = "none"
    """Precision of the matrix products; weights and optimizer stay in fp32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    num_threads: int | None = Field(None, ge=1)
    """CPU threads of the process; None leaves torch's choice."""
    max_mismatch: float | None = Field(0.05, gt=0.0)
    """Mean |Δ log-prob| in nats between sampler and learner above which the learner refuses, over what its
    own version drew; None: never."""
    max_lagged_mismatch: float | None = Field(0.5, gt=0.0)
    """The same over what older versions drew, where some difference is due; finds weights that never came."""


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
    ) -> None:
        """`lm` is trained in place, in fp32 if it came in less; the reference, if any, is a copy of it as
        it is now, so whatever warms it up comes before. `num_updates` is the length of the run, where
        schedules end; `sampling` is how the actors draw.

        Raises:
            UserError: a sampling whose log-probs a learner cannot recompute, or a model it cannot take apart.
        """
        check_sampling(sampling, algorithm.is_off_policy)
        if config.num_threads is not None:
            torch.set_num_threads(config.num_threads)
        lm = in_training_precision(lm)
        nn.Module.to(lm, _device(config.device))
        if lm.device.type == "cpu":
            keep_freed_memory()
        self._config, self._seed, self.algorithm = config, seed, algorithm
        temperature, share_prompts = sampling.temperature, config.share_prompts
        needs_reference = algorithm.needs_reference
        self.reference = frozen_copy(lm, temperature, share_prompts) if needs_reference else None
        with torch.random.fork_rng(devices=[]):
            # What else was drawn in this process must not change the run.
            torch.manual_seed(derive(seed, "heads"))
            heads = algorithm.heads(lm)
        self.model = PolicyModel(lm, heads, temperature=temperature, share_prompts=share_prompts)
        self.optimizer = Optimizer(
            config.optimizer,
            ((f"lm.{n}", p) for n, p in self.model.lm.named_parameters()),
            ((f"heads.{n}", p) for n, p in self.model.heads.named_parameters()),
            num_updates=num_updates,
        )
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
        # An update that was refused may have left gradients behind.
        self.model.zero_grad()
        batch = Batch.from_groups(groups).to(self.model.lm.device)
        if importance is not None:
            batch = batch.with_(importance=per_row(importance, groups, batch.group))
        steps = self._plan(batch)
        batch = self.algorithm.prepare(self._observe(batch, steps))
        tally, reports, precision = metrics.Tally(), [], self._config.autocast
        seen: dict[str, Tensor] = {}
        for micro_batches in steps:
            accumulate(self.model, self.algorithm, batch, micro_batches, precision, tally, seen)
            if len(steps) == 1:
                batch = self._with_proximal(batch, seen)
            reports.append(self.optimizer.step(self.version))
        batch = self._with_proximal(batch, seen)
        batch = batch.with_(**{name: x for name, x in seen.items() if name != "logprob"})
        has_error = "td_error" in batch
        self.td_errors = mean_per_group(batch["td_error"], groups, batch.group) if has_error else None
        result = self._report(batch, tally, reports)
        self.version += 1
        return result

    def weights(self, version: int, dtype: torch.dtype | None = None) -> Weights:
        """What actors play, packed as policy version `version`: the language model, and the Q function that
        the algorithm plays beside it, if any. `dtype` is that of the wire; None keeps each tensor's own."""
        return pack(version, together(self.model.lm, self.algorithm.guide()), dtype)

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes while training. Tensors are not copied: save before the next update.

        Nothing here draws from a random number generator: the order of minibatches derives from the seed.
        """
        return {
            "model": tensors_of(self.model),
            "reference": {} if self.reference is None else tensors_of(self.reference),
            "optimizer": self.optimizer.state_dict(),
            "algorithm": self.algorithm.state_dict(),
            "version": self.version,
            "num_skipped": self.num_skipped,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`.

        Raises:
            ValueError: the state is of another model, algorithm or configuration; names what does not fit.
        """
        if state.keys() != self.state_dict().keys():
            raise ValueError(f"learner state has {sorted(state)}, want {sorted(self.state_dict())}")
        copy_into(self.model, state["model"])
        if self.reference is not None or state["reference"]:
            copy_into(self.reference or nn.Module(), state["reference"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.algorithm.load_state_dict(state["algorithm"])
        self.version, self.num_skipped = int(state["version"]), int(state["num_skipped"])

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
            streams = observe(self.model, batch, parts, self._config.autocast)
            streams["logprob_prox"] = streams.pop("logprob")
            batch = batch.with_(**streams)
            self._check_mismatch(batch)
        if self.reference is not None:
            logprob_ref = observe(self.reference, batch, parts, self._config.autocast)["logprob"]
            batch = batch.with_(logprob_ref=logprob_ref)
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
            **tally.means(),
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


def in_training_precision(lm: PreTrainedModel) -> PreTrainedModel:
    """fp32 for what came in half precision: small steps vanish in bf16 weights. Others stay."""
    return lm.float() if lm.dtype in (torch.bfloat16, torch.float16) else lm


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
