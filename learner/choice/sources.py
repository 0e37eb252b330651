"""Where the Q network gets the vectors of texts, which it names by number."""

from abc import abstractmethod
from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from learner.choice.encoder import Encoder
from learner.choice.table import NOTHING
from reward_service.networks.encoding import Ids


class Source(nn.Module):
    """Numbers in, vectors out. Its parameters, if it has any, are trained."""

    size: int
    """Numbers in a vector."""

    @abstractmethod
    def forward(self, numbers: Tensor) -> Tensor:
        """[n] int64, no NOTHING among them -> [n, size] float32"""

    @abstractmethod
    def older_copy(self) -> "Source":
        """What the target network reads by: other parameters, which start equal; the source itself where it
        has none."""


class FrozenVectors(Source):
    """A table that was made before."""

    def __init__(self, vectors: Tensor) -> None:
        """
        Args:
            vectors: [U, size] float32, by text.
        """
        super().__init__()
        self.size = vectors.shape[1]
        # Not part of a checkpoint: the vector cache holds them.
        self.register_buffer("vectors", vectors, persistent=False)
        self.vectors: Tensor

    def forward(self, numbers: Tensor) -> Tensor:
        return self.vectors[numbers]

    def older_copy(self) -> "FrozenVectors":
        return self


class TrainedEncoder(Source):
    """Reads each text anew, because its encoder changes."""

    def __init__(self, encoder: Encoder, rows: Sequence[Ids]) -> None:
        """
        Args:
            rows: the token ids of each text.
        """
        super().__init__()
        self.size = encoder.size
        self.encoder = encoder
        self._rows = rows

    def forward(self, numbers: Tensor) -> Tensor:
        different, places = numbers.cpu().unique(return_inverse=True)
        vectors: Tensor = self.encoder([self._rows[i] for i in different.tolist()])
        return vectors[places.to(vectors.device)]

    def older_copy(self) -> "TrainedEncoder":
        # The ids, millions of numbers perhaps, are shared.
        return TrainedEncoder(deepcopy(self.encoder), self._rows)


def read_all(source: Source, numbers: Tensor) -> Tensor:
    """The vectors of a tensor of numbers of any shape; zeros for NOTHING. -> [..., size]"""
    vectors = torch.zeros(*numbers.shape, source.size, device=numbers.device)
    is_there = numbers != NOTHING
    if bool(is_there.any()):
        vectors[is_there] = source(numbers[is_there])
    return vectors
