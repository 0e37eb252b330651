"""Double DQN over candidate actions, from transitions that were made before.

Called by the training run. Knows numbers of texts and a model; knows nothing of texts, files and folders.
"""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from antiphon.seeds import derive
from antiphon.settings import Settings
from learner.choice.model import ChoiceModel
from learner.choice.replay import ReplayConfig, build_replay
from learner.choice.table import NOTHING, TransitionTable
from learner.functional.choice import conservative, double_dqn_target, huber
from learner.optimizer import Optimizer, OptimizerConfig


class QLearningConfig(Settings):
    """What is learned: Double DQN (1509.06461), towards r + γ Q_target(s', argmax_a Q(s', a))."""

    gamma: float = Field(0.9, ge=0.0, le=1.0)
    """How much the next step's worth counts, per step. Of no effect where each episode is one step."""
    is_double: bool = True
    """The network that learns chooses the next action, and its older copy tells what that is worth; false:
    the older copy does both, which overestimates."""
    huber_delta: float | None = Field(1.0, gt=0.0)
    """TD errors beyond this count linearly, not squared; null: all squared."""
    cql_weight: float = Field(0.0, ge=0.0)
    """Weight of the conservative term, which lowers the values of candidates that the data never tried. Raise
    it where `value_error` is large on held-out choices and the data tried few of the candidates."""
    tau: float = Field(0.01, gt=0.0, le=1.0)
    """How far the target network moves towards the one that learns, each time it moves. 1 copies it."""
    target_every: int = Field(1, ge=1)
    """Updates between two moves of the target network; with tau 1 the periodic copy of the first DQN."""


class ChoiceTrainingConfig(Settings):
    """How an update is computed."""

    batch_size: int = Field(128, ge=1)
    """Transitions that an update learns from."""
    rows_per_micro_batch: int = Field(128, ge=1)
    """Transitions that go through the network at once. Changes memory, not the result; lower it where the
    encoder is trained."""
    num_threads: int | None = Field(None, ge=1)
    """CPU threads of torch; null: as many as torch takes by itself."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-5, head_lr=1e-3, weight_decay=0.01, betas=(0.9, 0.99))
    """`lr` is that of the encoder, where it is trained; `head_lr` that of the Q network."""


class ChoiceTrainer:
    """Updates a model in place. All draws are seeded by (seed, version): there is no other random state."""

    def __init__(
        self,
        model: ChoiceModel,
        table: TransitionTable,
        *,
        learning: QLearningConfig,
        training: ChoiceTrainingConfig,
        replay: ReplayConfig,
        num_updates: int,
        seed: int,
    ) -> None:
        self.model, self.version = model, 0
        self._device = next(model.network.parameters()).device
        self._table = table.to(self._device)
        self._learning, self._training, self._seed = learning, training, seed
        self._replay = build_replay(replay, len(table), seed)
        self._older = model.older_copy()
        self._optimizer = Optimizer(
            training.optimizer,
            ((f"source.{name}", p) for name, p in model.source.named_parameters()),
            ((f"network.{name}", p) for name, p in model.network.named_parameters()),
            num_updates=num_updates,
        )

    def update(self) -> dict[str, float]:
        """One step of the optimizer; returns its numbers."""
        drawn = self._replay.draw(self._training.batch_size, self.version)
        generator = torch.Generator().manual_seed(derive(self._seed, "dropout", self.version))
        weights = drawn.weights.to(self._device)
        parts = torch.arange(len(drawn.numbers)).split(self._training.rows_per_micro_batch)
        done = [
            self._accumulate(self._table.rows(drawn.numbers[part]), weights[part], generator, len(weights))
            for part in parts
        ]
        q, target, loss = (torch.cat(column) for column in zip(*done, strict=True))
        step = self._optimizer.step(self.version)
        self._replay.revise(drawn.numbers, (q - target).abs().cpu())
        self.version += 1
        if self.version % self._learning.target_every == 0:
            self._older.follow(self.model, self._learning.tau)
        return {
            "q/loss": float(loss.sum()),
            "q/td_error": float((q - target).abs().mean()),
            "q/mean": float(q.mean()),
            "q/max": float(q.max()),
            "q/target": float(target.mean()),
            "replay/weight_min": float(weights.min()),
            "optimizer/grad_norm": step.grad_norm,
            "optimizer/lr": step.lr,
            "optimizer/skipped": float(step.is_skipped),
        }

    def _accumulate(
        self, rows: TransitionTable, weights: Tensor, generator: torch.Generator, num_rows: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Leaves the gradient of a part of the batch; returns Q, target and share of the loss, [n] each."""
        target = self._targets(rows)
        # Without the conservative term the other candidates need not be read.
        is_alone = self._learning.cql_weight == 0.0
        actions = rows.taken_action[:, None] if is_alone else rows.actions
        taken = torch.zeros_like(rows.taken) if is_alone else rows.taken
        values = self.model(rows.state, actions, generator)
        q = values.gather(1, taken[:, None])[:, 0]
        loss = huber(q - target, self._learning.huber_delta)
        if not is_alone:
            loss = loss + self._learning.cql_weight * conservative(values, taken, actions != NOTHING)
        share = weights * loss / num_rows
        share.sum().backward()
        return q.detach(), target, share.detach()

    @torch.no_grad()
    def _targets(self, rows: TransitionTable) -> Tensor:
        """What Q should be. -> [n]"""
        older = self._older(rows.next_state, rows.next_actions)
        newer = self.model(rows.next_state, rows.next_actions) if self._learning.is_double else older
        is_there = rows.next_actions != NOTHING
        return double_dqn_target(rows.reward, rows.is_done, newer, older, is_there, self._learning.gamma)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on, beside data and settings."""
        return {
            "version": self.version,
            "online": dict(self.model.state_dict()),
            "target": dict(self._older.state_dict()),
            "optimizer": self._optimizer.state_dict(),
            "replay": self._replay.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`.

        Raises:
            ValueError: the state of another number of transitions.
            RuntimeError: the state of another model.
        """
        self.model.load_state_dict(state["online"])
        self._older.load_state_dict(state["target"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._replay.load_state_dict(state["replay"])
        self.version = state["version"]
