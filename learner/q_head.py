"""The Q heads and the V head that ilql and dqn train on the policy's hidden states, with their target copies.

Whatever needs the Q-values of all tokens goes over the states in chunks and is computed again in the backward
pass: no tensor [B, T, vocabulary] exists. What actors play is the module `target`.
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from learner.functional.q_targets import double_q, supported
from learner.heads import Head
from learner.targets import follow
from rollout.q_function import QConfig, for_model, joined

CHUNK_BYTES = 128 * 2**20
"""Of Q-values of all tokens at a time, over all heads and their copies."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Among which tokens a greedy choice is made."""

    unembedding: nn.Module
    scale: float
    """Logits are scale · unembedding(states)."""
    share: float
    """See `supported`; 0 allows every token, and no logits are computed."""

    def allowed(self, states: Tensor) -> Tensor | None:
        """[N, H] -> [N, V] bool; None: all."""
        if self.share == 0.0:
            return None
        return supported(self.scale * self.unembedding(states).float(), self.share)


class QHead(Head):
    """Streams, for each head k:

    q_k, q_target_k     of the token that was drawn; the target copy has no gradient
    logsumexp_k         log Σ_a e^{Q_k(s, a)}, if asked for
    value, value_final  of the state before each action, and after the last token
    q_next              min_k Q̄_k(s, a*) with a* = argmax_a min_k Q_k(s, a), and q_next_final, if there is a
                        choice: what the state is worth to somebody who acts greedily; no gradient
    """

    def __init__(
        self,
        config: QConfig,
        lm: PreTrainedModel,
        *,
        is_detached: bool = False,
        has_logsumexp: bool = False,
        choice: Choice | None = None,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        """
        Args:
            is_detached: no gradient goes from here into the model.
            chunk_bytes: of Q-values of all tokens that may exist at once; at least one state is computed.
        """
        super().__init__()
        self.online = for_model(config, lm)
        # The V head has no copy: actors play the one that is trained.
        self.target = joined(deepcopy(self.online).requires_grad_(False), self.online)
        self._is_detached, self._has_logsumexp, self._choice = is_detached, has_logsumexp, choice
        self._states_per_chunk = max(1, chunk_bytes // (8 * config.num_q * self.online.vocab_size))

    def forward(self, states: Tensor, token_ids: Tensor) -> Mapping[str, Tensor]:
        states = self._read(states)
        streams = _numbered("q", self.online.taken(states, token_ids))
        with torch.no_grad():
            streams |= _numbered("q_target", self.target.taken(states, token_ids))
        streams["value"] = self.online.value(states)
        if self._has_logsumexp:
            streams |= _numbered("logsumexp", self._logsumexps(states))
        if self._choice is not None:
            streams["q_next"] = self._greedy(states, self._choice)
        return streams

    def final(self, states: Tensor) -> Mapping[str, Tensor]:
        states = self._read(states)
        streams = {"value_final": self.online.value(states)}
        if self._choice is not None:
            streams["q_next_final"] = self._greedy(states, self._choice)
        return streams

    def follow(self, share: float) -> None:
        """Move the target copies this share of the way to the trained heads."""
        follow(self.target.q_heads, self.online.q_heads, share)

    def _read(self, states: Tensor) -> Tensor:
        return states.detach() if self._is_detached else states

    def _logsumexps(self, states: Tensor) -> list[Tensor]:
        """Of each head, num_q tensors [N]."""
        chunks = states.split(self._states_per_chunk)
        if len(chunks) == 1 or not torch.is_grad_enabled():
            parts = [self._logsumexp(chunk) for chunk in chunks]
        else:
            parts = [
                checkpoint(self._logsumexp, c, use_reentrant=False, preserve_rng_state=False) for c in chunks
            ]
        return [torch.cat(part) for part in zip(*parts, strict=True)]

    def _logsumexp(self, states: Tensor) -> tuple[Tensor, ...]:
        return tuple(q.logsumexp(dim=1) for q in self.online.all(states))

    @torch.no_grad()
    def _greedy(self, states: Tensor, choice: Choice) -> Tensor:
        """[N, H] -> [N]"""
        return torch.cat(
            [
                double_q(self.online.all(chunk), self.target.all(chunk), choice.allowed(chunk))
                for chunk in states.split(self._states_per_chunk)
            ]
        )


def _numbered(name: str, streams: Iterable[Tensor]) -> dict[str, Tensor]:
    return {f"{name}_{k}": stream for k, stream in enumerate(streams)}
