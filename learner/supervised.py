"""The warm-up: maximum likelihood on pairs of prompt and target, with the learner's model and optimizer."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from pydantic import Field
from transformers import PreTrainedModel

from antiphon.seeds import derive
from antiphon.settings import Settings
from learner.batch import Batch
from learner.micro_batches import micro_batches
from learner.model import PolicyModel
from learner.optimizer import Optimizer, OptimizerConfig

Pair = tuple[Sequence[int], Sequence[int]]
"""Token ids of a prompt, and of the target that should follow it, stop token included."""
OnStep = Callable[[int, dict[str, float]], bool]
"""Told the number of steps taken and their metrics; True ends the phase."""


class SupervisedConfig(Settings):
    """A short supervised phase before the first update."""

    num_steps: int = Field(100, ge=0)
    batch_size: int = Field(64, ge=1)
    """Pairs per step."""
    lr: float = Field(1e-3, gt=0.0)
    warmup_steps: int = Field(10, ge=0)
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    weight_decay: float = Field(0.0, ge=0.0)
    max_grad_norm: float = Field(1.0, gt=0.0)
    max_tokens_per_micro_batch: int = Field(2048, ge=1)
    stop_at: float | None = Field(None, gt=0.0, le=1.0)
    """Chance that sampling gives the whole target, over some of the training pairs, at which the caller ends
    the phase early; None takes all steps."""
    eval_every: int = Field(25, ge=1)
    """Steps between the caller's looks at that accuracy."""


def supervise(
    lm: PreTrainedModel,
    pairs: Sequence[Pair],
    config: SupervisedConfig,
    *,
    seed: int = 0,
    on_step: OnStep = lambda step, metrics: False,
) -> dict[str, float]:
    """Train `lm` in place with an optimizer of its own, which is gone afterwards.

    Returns:
        loss/supervised (nats per target token, last step) and num_steps (taken).

    Raises:
        ValueError: no pairs, or an empty prompt or target.
    """
    if not pairs or not all(prompt and target for prompt, target in pairs):
        raise ValueError("supervised learning needs pairs of a prompt and a target, none of them empty")
    model = PolicyModel(lm, share_prompts=False)
    optimizer = Optimizer(_optimizer_config(config), lm.named_parameters(), num_updates=config.num_steps)
    metrics = {"loss/supervised": float("nan"), "num_steps": 0.0}
    for step, chosen in enumerate(_draws(len(pairs), config, seed)):
        loss = _accumulate(model, Batch.from_pairs([pairs[i] for i in chosen]), config)
        report = optimizer.step(step)
        metrics = {
            "loss/supervised": loss,
            "grad_norm": report.grad_norm,
            "lr": report.lr,
            "num_steps": step + 1.0,
        }
        if on_step(step + 1, metrics):
            break
    return metrics


def _accumulate(model: PolicyModel, batch: Batch, config: SupervisedConfig) -> float:
    """Gradient and value of −Σ log π / tokens over the batch."""
    num_tokens = float(batch.action_mask.sum())
    batch = batch.to(model.lm.device)
    total = 0.0
    for rows in micro_batches(batch, range(batch.num_rows), config.max_tokens_per_micro_batch, False):
        loss = -model(batch.select(rows))["logprob"].sum() / num_tokens
        loss.backward()
        total += float(loss.detach())
    return total


def _draws(num_pairs: int, config: SupervisedConfig, seed: int) -> Iterator[list[int]]:
    """Row numbers for each step: one seeded permutation after the other, cut into batches."""
    left: list[int] = []
    epoch = 0
    for _ in range(config.num_steps):
        while len(left) < config.batch_size:
            generator = torch.Generator().manual_seed(derive(seed, "supervised", epoch))
            left += torch.randperm(num_pairs, generator=generator).tolist()
            epoch += 1
        yield left[: config.batch_size]
        left = left[config.batch_size :]


def _optimizer_config(config: SupervisedConfig) -> OptimizerConfig:
    """One step is one "update" here."""
    return OptimizerConfig(
        lr=config.lr,
        weight_decay=config.weight_decay,
        warmup_updates=config.warmup_steps,
        schedule=config.schedule,
        max_grad_norm=config.max_grad_norm,
    )
