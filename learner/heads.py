"""What a model computes besides log-probabilities: values now, whatever else an algorithm asks for.

A head maps states to named streams. It belongs to the learner; actors never see it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from transformers import PreTrainedModel

from antiphon.settings import Settings


class Head(nn.Module, ABC):
    """Reads hidden states [N, H] and says something about each."""

    def __init__(self, trunk: nn.Module | None = None) -> None:
        """`trunk` is a base model of the head's own; without one it reads the states of the policy."""
        super().__init__()
        self.trunk = trunk

    @abstractmethod
    def forward(self, states: Tensor, token_ids: Tensor) -> Mapping[str, Tensor]:
        """Streams [N] about the states before the action tokens `token_ids` [N], by name."""

    def final(self, states: Tensor) -> Mapping[str, Tensor]:
        """Streams [B] about the states after the last token of each row, by name."""
        return {}


class ValueHead(Head):
    """V(s): "value" before each action and "value_final" after the last token.

    The last layer starts at zero, so that a new critic says 0 everywhere and leaves advantages alone.
    """

    class Config(Settings):
        trunk: Literal["shared", "detached", "separate"] = "shared"
        """"shared" reads the policy's hidden states and sends gradients into them; "detached" only reads
        them; "separate" is a whole second model that starts as a copy of the policy: steadier, at twice the
        cost."""
        hidden_size: int = Field(256, ge=0)
        """Width of a hidden layer; 0 makes the head linear, which is slower to see anything."""

    def __init__(self, config: Config, lm: PreTrainedModel) -> None:
        super().__init__(deepcopy(lm.base_model) if config.trunk == "separate" else None)
        self._is_detached = config.trunk == "detached"
        size = lm.config.get_text_config().hidden_size
        self.body = _hidden_layer(size, config.hidden_size)
        self.last = nn.Linear(config.hidden_size or size, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.to(next(lm.parameters()))

    def forward(self, states: Tensor, token_ids: Tensor) -> Mapping[str, Tensor]:
        return {"value": self._value(states)}

    def final(self, states: Tensor) -> Mapping[str, Tensor]:
        return {"value_final": self._value(states)}

    def _value(self, states: Tensor) -> Tensor:
        states = states.detach() if self._is_detached else states
        value: Tensor = self.last(self.body(states)).squeeze(-1)
        return value.to(self.last.weight.dtype)


def _hidden_layer(input_size: int, hidden_size: int) -> nn.Module:
    if hidden_size == 0:
        return nn.Identity()
    return nn.Sequential(nn.Linear(input_size, hidden_size), nn.SiLU())
