"""A source of vectors and a Q network over them: values of candidate actions, all named by number."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from learner.choice.network import QNetwork
from learner.choice.sources import Source, read_all
from learner.choice.table import NOTHING

FIT_ON = 2048
"""Texts of each kind on which the network's scales are measured."""


class ChoiceModel(nn.Module):
    """Q(s, a) for numbers of texts."""

    def __init__(self, source: Source, network: QNetwork) -> None:
        super().__init__()
        self.source, self.network = source, network

    def forward(self, states: Tensor, actions: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """[B] and [B, A] int64 -> [B, A]; meaningless where the action, or the state, is NOTHING."""
        vectors = read_all(self.source, torch.cat([states[:, None], actions], dim=1))
        q: Tensor = self.network(vectors[:, 0], vectors[:, 1:], generator)
        return q

    @torch.no_grad()
    def fit_scales(self, states: Tensor, actions: Tensor) -> None:
        """Measure the size of the vectors on (some of) these texts."""
        for numbers, scale in ((states, self.network.state_scale), (actions, self.network.action_scale)):
            different = numbers[numbers != NOTHING].unique()
            step = max(1, len(different) // FIT_ON)
            # Of a trained encoder a few at a time: nothing bounds the lengths here.
            parts = different[::step].split(64)
            scale.fit(torch.cat([self.source(part) for part in parts]))

    def older_copy(self) -> "ChoiceModel":
        """The target network: equal now, and never trained."""
        return ChoiceModel(self.source.older_copy(), deepcopy(self.network)).requires_grad_(False)

    @torch.no_grad()
    def follow(self, online: "ChoiceModel", tau: float) -> None:
        """θ ← (1 − τ) θ + τ θ_online."""
        for own, newer in zip(self.parameters(), online.parameters(), strict=True):
            own.lerp_(newer, tau)
