"""Q and V over the hidden states of a language model: the module that learner and actors share.

The learner trains one of these (learner/q_head.py); what an actor plays is another, of the target Q heads and
the V head, whose tensors travel with those of the language model as "guide.*". Knows neither losses nor
sampling.

Shapes: N states, H their width, V words of the vocabulary.
"""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from antiphon.settings import Settings


class QConfig(Settings):
    """The form of the Q heads. The V head is a number from the same kind of hidden layer."""

    form: Literal["full", "low_rank", "tied"] = "low_rank"
    """How a state becomes a number per token. "full" is one linear layer: exact, and with a large vocabulary
    larger than a small model. "low_rank" goes through `rank` numbers. "tied" makes a vector, which is
    multiplied with the model's own unembedding, and a level for all tokens: the fewest parameters, and tokens
    of similar meaning have similar values from the start."""
    hidden_size: int = Field(256, ge=0)
    """Width of a hidden layer before each head; 0: none. Without one, the heads of form full or tied start
    equal and stay so, and num_q above 1 is of no use."""
    rank: int = Field(32, ge=1)
    """Of form low_rank: raise it where many tokens have values of their own."""
    num_q: int = Field(2, ge=1)
    """Q functions, of which the least is believed: two keep values from running away upwards."""


class QFunction(nn.Module):
    """Q_k(s, a) for k < num_q, and V(s).

    The last layers start at zero: Q = V = 0, and an actor that plays a new one plays the model alone.

    Example:
        >>> q = QFunction(QConfig(form="full"), hidden_size=8, vocab_size=100)
        >>> [x.shape for x in q.taken(states, token_ids)], q.value(states).shape
    """

    def __init__(
        self, config: QConfig, hidden_size: int, vocab_size: int, unembedding: nn.Module | None = None
    ) -> None:
        """
        Args:
            unembedding: of form tied, the last layer of the language model, weight [V, H]. It is read and
                never trained from here, and no part of this module's state.

        Raises:
            ValueError: form tied without an unembedding, or with one of another shape.
        """
        super().__init__()
        self.config, self.hidden_size, self.vocab_size = config, hidden_size, vocab_size
        tied_to = _tied_to(config, hidden_size, vocab_size, unembedding)
        self.q_heads = nn.ModuleList(
            _QHead(config, hidden_size, vocab_size, tied_to) for _ in range(config.num_q)
        )
        width = config.hidden_size or hidden_size
        self.v_head = nn.Sequential(_body(hidden_size, config.hidden_size), _zeroed(nn.Linear(width, 1)))

    def taken(self, states: Tensor, token_ids: Tensor) -> list[Tensor]:
        """Q_k of one token after each state; nothing of size [N, V] is made, in the backward pass neither.

        Args:
            states: [N, H].
            token_ids: [N] int64.

        Returns:
            num_q tensors [N], in the dtype of the parameters. They differ from those of `all` by rounding.
        """
        self._check(states)
        if token_ids.shape != states.shape[:1]:
            raise ValueError(f"want token_ids [{len(states)}], got {tuple(token_ids.shape)}")
        return [head.taken(states, token_ids) for head in self.q_heads]  # type: ignore[operator]

    def all(self, states: Tensor) -> list[Tensor]:
        """Q_k of every token after each state, num_q tensors [N, V]: for few states, or a chunk of many."""
        self._check(states)
        return [head(states) for head in self.q_heads]

    def value(self, states: Tensor) -> Tensor:
        """V of each state, [N]."""
        self._check(states)
        own = next(self.v_head.parameters()).dtype
        value: Tensor = self.v_head(states.to(own)).squeeze(-1)
        return value.to(own)

    def advantages(self, states: Tensor) -> Tensor:
        """min_k Q_k − V of every token after each state, [N, V]: what moves the logits of an actor."""
        least = self.all(states)
        return torch.stack(least).amin(0) - self.value(states)[:, None]

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def _check(self, states: Tensor) -> None:
        if states.dim() != 2 or states.shape[1] != self.hidden_size:
            raise ValueError(f"want states [N, {self.hidden_size}], got {tuple(states.shape)}")


def for_model(config: QConfig, lm: PreTrainedModel) -> QFunction:
    """A new one for the hidden states and the vocabulary of `lm`, in its dtype and on its device.

    Draws its first layers from torch's global random state.
    """
    unembedding: Any = lm.get_output_embeddings()
    vocab_size, hidden_size = unembedding.weight.shape
    return QFunction(config, hidden_size, vocab_size, unembedding).to(next(lm.parameters()))


def joined(q: QFunction, value: QFunction) -> QFunction:
    """The Q heads of one and the V head of the other, as one module: it shares their tensors, copies none."""
    with torch.device("meta"):
        both = QFunction(q.config, q.hidden_size, q.vocab_size, _stand_in(q))
    both.q_heads, both.v_head = q.q_heads, value.v_head
    return both


class _QHead(nn.Module):
    """state -> features [N, F]; Q(s, a) = features · weight[a] + level, weight [V, F]."""

    def __init__(
        self, config: QConfig, hidden_size: int, vocab_size: int, tied_to: "_Borrowed | None"
    ) -> None:
        super().__init__()
        width = config.hidden_size or hidden_size
        self.body = _body(hidden_size, config.hidden_size)
        self.tied_to = tied_to
        if tied_to is not None:
            # One number more than the unembedding takes: what all tokens have in common.
            self.last = _zeroed(nn.Linear(width, hidden_size + 1))
        elif config.form == "low_rank":
            self.body = nn.Sequential(self.body, nn.Linear(width, config.rank))
            self.last = _zeroed(nn.Linear(config.rank, vocab_size))
        else:
            self.last = _zeroed(nn.Linear(width, vocab_size))

    def forward(self, states: Tensor) -> Tensor:
        own = self.last.weight.dtype
        features = self.body(states.to(own))
        if self.tied_to is None:
            q: Tensor = self.last(features)
            return q.to(own)
        direction, level = self._directed(features)
        weight = self.tied_to.weight
        return functional.linear(direction.to(weight.dtype), weight).to(own) + level[:, None]

    def taken(self, states: Tensor, token_ids: Tensor) -> Tensor:
        own = self.last.weight.dtype
        features = self.body(states.to(own))
        # As embeddings: the sum over equal tokens in the backward pass is the same in every run.
        if self.tied_to is None:
            weight = functional.embedding(token_ids, self.last.weight)
            level = functional.embedding(token_ids, self.last.bias[:, None]).squeeze(-1)
        else:
            features, level = self._directed(features)
            weight = functional.embedding(token_ids, self.tied_to.weight)
        return ((features * weight).sum(-1) + level).to(own)

    def _directed(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """What is multiplied with the unembedding, [N, H], and the level of all tokens, [N]."""
        x: Tensor = self.last(features).to(self.last.weight.dtype)
        return x[:, :-1], x[:, -1]


class _Borrowed:
    """Somebody else's layer: a copy of the borrower still points to the one and only."""

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer

    @property
    def weight(self) -> Tensor:
        """[V, H], without gradient."""
        weight: Any = self._layer.weight
        return weight.detach()

    def __deepcopy__(self, memo: object) -> "_Borrowed":
        return self


def _tied_to(
    config: QConfig, hidden_size: int, vocab_size: int, unembedding: nn.Module | None
) -> _Borrowed | None:
    if config.form != "tied":
        return None
    if unembedding is None:
        raise ValueError("Q heads of form tied need the unembedding of the model")
    borrowed = _Borrowed(unembedding)
    if borrowed.weight.shape != (vocab_size, hidden_size):
        raise ValueError(
            f"want an unembedding [{vocab_size}, {hidden_size}], got {tuple(borrowed.weight.shape)}"
        )
    return borrowed


def _stand_in(q: QFunction) -> nn.Module | None:
    """Something of the shape of an unembedding; on the meta device it costs nothing."""
    return nn.Linear(q.hidden_size, q.vocab_size) if q.config.form == "tied" else None


def _body(input_size: int, hidden_size: int) -> nn.Module:
    if hidden_size == 0:
        return nn.Identity()
    return nn.Sequential(nn.Linear(input_size, hidden_size), nn.SiLU())


def _zeroed(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
