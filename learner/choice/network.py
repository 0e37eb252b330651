"""Q of a state and an action that are vectors.

    u = U ŝ,  v = W â,  Q(s, a) = MLP([u, v, u ∘ v, |u − v|])

The features of Conneau et al. 2017 (arXiv:1705.02364): what matters is how the two go together. ŝ and â are
the vectors with mean 0 and variance 1 in every component over the data, because the components of a language
model's hidden states differ in size by orders of magnitude.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from antiphon.settings import Settings


class QNetworkConfig(Settings):
    """The size of the Q network."""

    rank: int = Field(128, ge=1)
    """Numbers in u and in v. Lower forgets more of the vectors, and overfits less."""
    hidden_size: int = Field(256, ge=0)
    """Width of the hidden layer; 0: the last layer reads the features as they are."""
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of the features that an update does not see. Raise it where held-out choices get worse again."""


class QNetwork(nn.Module):
    """Starts at Q = 0 everywhere, with U = W: what is alike goes together."""

    def __init__(self, config: QNetworkConfig, size: int, seed: int) -> None:
        """
        Args:
            size: numbers in a state's vector, and in an action's.
            seed: draws the parameters.
        """
        super().__init__()
        self._dropout = config.dropout
        self.state_scale, self.action_scale = Standardizer(size), Standardizer(size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.of_state, self.of_action = nn.Linear(size, config.rank), nn.Linear(size, config.rank)
            width = config.hidden_size or 4 * config.rank
            self.hidden = nn.Linear(4 * config.rank, width) if config.hidden_size else nn.Identity()
        self.last = nn.Linear(width, 1)
        self.of_action.load_state_dict(self.of_state.state_dict())
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, states: Tensor, actions: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Q of each action in its row's state. [B, H], [B, A, H] -> [B, A]

        Args:
            generator: draws what is dropped; None drops nothing.
        """
        u = self.of_state(self.state_scale(states))[:, None].expand(-1, actions.shape[1], -1)
        v = self.of_action(self.action_scale(actions))
        features = torch.cat([u, v, u * v, (u - v).abs()], dim=-1)
        hidden = nn.functional.gelu(self.hidden(self._dropped(features, generator)))
        q: Tensor = self.last(hidden)[..., 0]
        return q

    def _dropped(self, features: Tensor, generator: torch.Generator | None) -> Tensor:
        if generator is None or self._dropout == 0.0:
            return features
        # Drawn on the CPU, from a seed of the update: a resumed run drops the same.
        kept = torch.rand(features.shape, generator=generator) >= self._dropout
        return features * kept.to(features.device) / (1.0 - self._dropout)


class Standardizer(nn.Module):
    """(x − mean) / std, with numbers that were measured once and are part of the model."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))
        self.mean: Tensor
        self.std: Tensor

    def fit(self, vectors: Tensor) -> None:
        """Measure on these, [N, size]."""
        self.mean.copy_(vectors.mean(dim=0))
        std = vectors.std(dim=0, correction=0)
        # A component that never varies tells nothing, and is not blown up.
        self.std.copy_(torch.where(std > 1e-6, std, torch.ones_like(std)))

    def forward(self, vectors: Tensor) -> Tensor:
        return (vectors - self.mean) / self.std
