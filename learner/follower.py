"""What a rank other than the first holds of a learner: its part of model and optimizer, and nothing else.

Replay, trajectories and the watch are the first rank's (process.py). Every call here is the other half of
the call of the same name there, made at the same time.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from transformers import PreTrainedModel

from learner.learner import Learner
from learner.ranks import Ranks
from learner.state import load_state


class Follower:
    """Model and optimizer of one rank. The learner is made on first use, as the first rank's is."""

    def __init__(
        self,
        lm: PreTrainedModel,
        make_learner: Callable[[PreTrainedModel], Learner],
        ranks: Ranks,
        weights_dtype: torch.dtype,
    ) -> None:
        """`lm` may be on the meta device: its values come from the first rank."""
        self._lm, self._make_learner = lm, make_learner
        self._ranks, self._weights_dtype = ranks, weights_dtype

    @cached_property
    def learner(self) -> Learner:
        return self._make_learner(self._lm)

    def update(self, version: int) -> None:
        with self._ranks.together(f"update {version}"):
            self.learner.follow()

    def pack(self, version: int) -> None:
        with self._ranks.together(f"publication {version}"):
            self.learner.played(self._weights_dtype)

    def save(self) -> None:
        with self._ranks.together("saving"):
            self.learner.state_dict()

    def load(self, folder: Path) -> None:
        """Take this rank's part out of the checkpoint, which every rank reads itself."""
        with self._ranks.together("loading"):
            self.learner.load_state_dict(load_state(folder, "learner"))
