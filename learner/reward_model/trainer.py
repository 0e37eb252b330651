"""The training: steps over pairs, each a Bradley-Terry loss on the margins of its pairs.

Called by cluster/train_reward_model.py. Knows token ids and a model; knows nothing of texts and files.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from transformers import PreTrainedModel

from antiphon.seeds import derive
from antiphon.settings import Settings
from learner.functional.preference import bradley_terry_loss, rightness
from learner.optimizer import Optimizer, OptimizerConfig
from learner.reward_model.encoded import EncodedPair
from learner.reward_model.model import head_parameters
from reward_service.networks.batching import length_batches, padded

OnStep = Callable[[int, int, dict[str, float]], None]
"""Told the number of steps taken, of how many, and the step's metrics."""


class TrainingConfig(Settings):
    """How long and how fast."""

    num_epochs: float = Field(1.0, gt=0.0)
    """Times that each pair is seen. Reward models overfit early: more than two or three rarely help."""
    pairs_per_step: int = Field(32, ge=1)
    """Pairs in an optimizer step."""
    max_tokens_per_micro_batch: int = Field(4096, ge=1)
    """Tokens that go through the model at once, padding included. Changes memory, not the result."""
    num_trained_layers: int | None = Field(None, ge=0)
    """Only so many layers from the top are trained, and the head; the rest stays as it was and costs a third.
    null: everything."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU where there is one."""
    num_threads: int | None = Field(None, ge=1)
    """CPU threads of torch; null: as many as torch takes by itself."""
    optimizer: OptimizerConfig = OptimizerConfig(
        lr=2e-5, head_lr=1e-3, warmup_updates=5, schedule="linear", betas=(0.9, 0.99)
    )
    """One step is one "update" here."""


def train(
    model: PreTrainedModel,
    pairs: Sequence[EncodedPair],
    config: TrainingConfig,
    *,
    seed: int,
    on_step: OnStep = lambda step, num_steps, metrics: None,
) -> int:
    """Train the model in place; returns the number of steps.

    Raises:
        ValueError: no pairs.
    """
    if not pairs:
        raise ValueError("there are no pairs to train on")
    num_steps = math.ceil(config.num_epochs * len(pairs) / config.pairs_per_step)
    heads = head_parameters(model)
    trunk = [(name, p) for name, p in model.named_parameters() if name not in heads]
    optimizer = Optimizer(config.optimizer, trunk, heads.items(), num_updates=num_steps)
    for step, chosen in enumerate(draws(len(pairs), config.pairs_per_step, num_steps, seed)):
        loss, right = _accumulate(model, [pairs[i] for i in chosen], config.max_tokens_per_micro_batch)
        done = optimizer.step(step)
        metrics = {"loss": loss, "accuracy": right, "grad_norm": done.grad_norm, "lr": done.lr}
        on_step(step + 1, num_steps, metrics)
    return num_steps


def draws(num_pairs: int, per_step: int, num_steps: int, seed: int) -> Iterator[list[int]]:
    """Numbers of pairs for each step: one seeded permutation after the other, cut into steps."""
    left: list[int] = []
    epoch = 0
    for _ in range(num_steps):
        while len(left) < per_step:
            generator = torch.Generator().manual_seed(derive(seed, "preferences", epoch))
            left += torch.randperm(num_pairs, generator=generator).tolist()
            epoch += 1
        yield left[:per_step]
        left = left[per_step:]


def _accumulate(model: PreTrainedModel, pairs: Sequence[EncodedPair], max_tokens: int) -> tuple[float, float]:
    """Leaves the gradient of the mean loss; returns that loss, and the share of pairs ranked rightly."""
    loss, num_right = 0.0, 0.0
    for numbers in length_batches([pair.num_tokens for pair in pairs], max_tokens):
        part = [pairs[i] for i in numbers]
        margin = margins(model, part)
        target = torch.tensor([pair.target for pair in part], device=margin.device)
        share = bradley_terry_loss(margin, target).sum() / len(pairs)
        share.backward()
        loss += float(share.detach())
        num_right += float(rightness(margin.detach()).sum())
    return loss, num_right / len(pairs)


def margins(model: PreTrainedModel, pairs: Sequence[EncodedPair]) -> Tensor:
    """r(chosen) − r(rejected) of each pair, all read in one pass. -> [N] float32"""
    pad_id = model.config.get_text_config().pad_token_id
    ids, mask = padded([*(p.chosen for p in pairs), *(p.rejected for p in pairs)], pad_id)
    values = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits[:, 0].float()
    return values[: len(pairs)] - values[len(pairs) :]
