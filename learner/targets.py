"""Copies of a network that follow it slowly, so that a Q-value is not chased by its own reflection.

The copies live in the heads (learner/q_head.py, learner/target_value_head.py); algorithms say when they move.
"""

import torch
from pydantic import Field
from torch import nn

from antiphon.settings import Settings


class TargetConfig(Settings):
    """How the target copies follow what is trained."""

    share: float = Field(0.005, gt=0.0, le=1.0)
    """Of the way to the trained network that a copy goes at a time (Polyak). 1 copies it: then set `every` to
    some tens or hundreds."""
    every: int = Field(1, ge=1)
    """Updates of the policy between two moves."""

    def is_due(self, num_updates: int) -> bool:
        """Whether the copies move after the update that made them `num_updates` in all."""
        return num_updates % self.every == 0


@torch.no_grad()
def follow(target: nn.Module, online: nn.Module, share: float) -> None:
    """target ← target + share · (online − target), every parameter.

    Raises:
        ValueError: modules with other parameters.
    """
    for copy, trained in zip(target.parameters(), online.parameters(), strict=True):
        copy.lerp_(trained, share)
