"""A V head with a target copy, for algorithms whose Q-values are the model's own log-probabilities."""

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from learner.heads import ValueHead
from learner.targets import follow


class TargetValueHead(ValueHead):
    """V(s) as `ValueHead` says it, and what a slower copy says: "value_target" before each action and
    "value_target_final" after the last token, both without gradient. Both read the same hidden states.
    """

    def __init__(self, config: ValueHead.Config, lm: PreTrainedModel) -> None:
        super().__init__(config, lm)
        self.target = deepcopy(nn.Sequential(self.body, self.last)).requires_grad_(False)

    def forward(self, states: Tensor, token_ids: Tensor) -> Mapping[str, Tensor]:
        return {**super().forward(states, token_ids), "value_target": self._target(states)}

    def final(self, states: Tensor) -> Mapping[str, Tensor]:
        return {**super().final(states), "value_target_final": self._target(states)}

    def follow(self, share: float) -> None:
        """Move the copy this share of the way to the trained head."""
        follow(self.target, nn.Sequential(self.body, self.last), share)

    @torch.no_grad()
    def start_at(self, value: float) -> None:
        """Let V and its copy, which say 0 everywhere when they are new, say this number everywhere."""
        self.last.bias.fill_(value)
        self.follow(1.0)

    @torch.no_grad()
    def _target(self, states: Tensor) -> Tensor:
        value: Tensor = self.target(states).squeeze(-1)
        return value.to(self.last.weight.dtype)
