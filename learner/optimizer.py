"""AdamW with everything around a step: schedule, clipping, and the refusal of non-finite gradients."""

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from antiphon.settings import Settings
from learner.tensors import placed_as

_log = logging.getLogger(__name__)


class OptimizerConfig(Settings):
    """AdamW (1711.05101). One update of the policy may take several steps; schedules count updates."""

    lr: float = Field(1e-5, gt=0.0)
    """Learning rate of the language model after warm-up."""
    head_lr: float | None = Field(None, gt=0.0)
    """Of heads, which start from nothing and may go faster; None: the same."""
    weight_decay: float = Field(0.0, ge=0.0)
    """Of matrices; vectors (biases, norms) never decay."""
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = Field(1e-8, gt=0.0)
    warmup_updates: int = Field(0, ge=0)
    """The learning rate climbs to its full height over this many updates."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """From the warm-up to the end of the run."""
    min_lr_share: float = Field(0.0, ge=0.0, le=1.0)
    """Where a linear or cosine schedule ends, as a share of lr."""
    max_grad_norm: float = Field(1.0, gt=0.0)
    """Longer gradients are scaled to this length."""

    def lr_share(self, update: int, num_updates: int) -> float:
        """The share of `lr` in the update with this number, counted from 0, of `num_updates` in all."""
        if update < self.warmup_updates:
            return (update + 1) / self.warmup_updates
        if self.schedule == "constant":
            return 1.0
        span = max(num_updates - self.warmup_updates, 1)
        progress = min((update - self.warmup_updates) / span, 1.0)
        left = 1.0 - progress if self.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
        return self.min_lr_share + (1.0 - self.min_lr_share) * left


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step did."""

    grad_norm: float
    """Before clipping; not finite if and only if the step was skipped."""
    lr: float
    is_skipped: bool


class Optimizer:
    """Steps the parameters it was given, addressed by name in its state."""

    def __init__(
        self,
        config: OptimizerConfig,
        parameters: Iterable[tuple[str, nn.Parameter]],
        head_parameters: Iterable[tuple[str, nn.Parameter]] = (),
        *,
        num_updates: int,
    ) -> None:
        self._config, self._num_updates = config, num_updates
        named, heads = dict(parameters), dict(head_parameters)
        self._parameters = named | heads
        groups = [
            *_groups(named.values(), config.lr, config.weight_decay),
            *_groups(heads.values(), config.head_lr or config.lr, config.weight_decay),
        ]
        self._adamw = torch.optim.AdamW(groups, betas=config.betas, eps=config.epsilon, fused=True)
        self._full_lr = [group["lr"] for group in self._adamw.param_groups]

    def step(self, update: int) -> Step:
        """Apply the gradients that were accumulated, in the update with this number; then clear them."""
        share = self._config.lr_share(update, self._num_updates)
        for group, full_lr in zip(self._adamw.param_groups, self._full_lr, strict=True):
            group["lr"] = share * full_lr
        grad_norm = self._clip()
        is_skipped = not math.isfinite(grad_norm)
        if is_skipped:
            _log.warning("update %d: gradient norm is %s, step skipped", update, grad_norm)
        else:
            self._adamw.step()
        self._adamw.zero_grad(set_to_none=True)
        return Step(grad_norm=grad_norm, lr=share * self._config.lr, is_skipped=is_skipped)

    def _clip(self) -> float:
        parameters = [p for p in self._parameters.values() if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if isinstance(norm, DTensor):
            # Each rank has the norm of its own part.
            norm = norm.full_tensor()
        nn.utils.clip_grads_with_norm_(parameters, self._config.max_grad_norm, norm)
        return float(norm)

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Moments and step count of each parameter that was ever stepped, by its name."""
        named = {name: self._adamw.state.get(p, {}) for name, p in self._parameters.items()}
        return {name: dict(state) for name, state in named.items() if state}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """The inverse of `state_dict`.

        Raises:
            ValueError: it speaks of a parameter that is not here, or of another shape.
        """
        for name, moments in state.items():
            parameter = self._parameters.get(name)
            if parameter is None or moments["exp_avg"].shape != parameter.shape:
                raise ValueError(
                    f"optimizer state of {name!r} has shape {tuple(moments['exp_avg'].shape)}, "
                    f"the parameter {None if parameter is None else tuple(parameter.shape)}"
                )
        self._adamw.state.clear()
        for name, moments in state.items():
            parameter = self._parameters[name]
            # The step count is a number, whatever the parameter is.
            self._adamw.state[parameter] = {
                k: v.clone().to(parameter.device) if k == "step" else placed_as(v, parameter).clone()
                for k, v in moments.items()
            }


def _groups(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay, vectors do not."""
    trained = [p for p in parameters if p.requires_grad]
    split = (([p for p in trained if p.dim() > 1], weight_decay), ([p for p in trained if p.dim() < 2], 0.0))
    return [{"params": part, "lr": lr, "weight_decay": decay} for part, decay in split if part]
