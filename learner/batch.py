"""Groups as tensors: what an algorithm and the learner compute on. Made from groups, never from text.

Sequences are [B, T], padded on the right; a tensor with a value per token is aligned to the token that it
speaks of: logprob[b, t] is that of token t given the tokens before it, value[b, t] that of the state before
token t. Masks come from lengths, never from comparing ids with a pad id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from rollout.types import NO_VERSION, Group, Trajectory


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Trajectories of some groups.

    Example:
        >>> batch = Batch.from_groups(groups).with_(logprob_ref=logprob_ref)
        >>> batch["logprob_ref"].shape == batch.token_ids.shape
        True
    """

    token_ids: Tensor
    """[B, T] int64; 0 past the end of a row."""
    lengths: Tensor
    """[B] int64, tokens of the row."""
    action_mask: Tensor
    """[B, T] bool, True where the policy drew the token; never at position 0."""
    logprob_behaviour: Tensor
    """[B, T] fp32, as the sampler reported it; 0 where the mask is False."""
    score: Tensor
    """[B] fp64, raw: whatever shapes a reward makes a new tensor."""
    group: Tensor
    """[B] int64, rows with the same number answer the same prompt; numbered from 0."""
    is_truncated: Tensor
    """[B] bool, True when generation ended by length and not by a stop token."""
    token_version: Tensor
    """[B, T] int64, the policy version that drew the token; NO_VERSION off action tokens and in rows of
    other runs."""
    streams: Mapping[str, Tensor] = field(default_factory=dict)
    """What was computed about the rows so far, by name: [B, T] or [B]."""

    @classmethod
    def from_groups(cls, groups: Sequence[Group]) -> "Batch":
        """Rows in the order of (epoch, index, sample): the order of arrival never matters.

        Raises:
            ValueError: no trajectory, an action at position 0, or a score that is not ok.
        """
        ordered = sorted(groups, key=lambda g: g.key)
        trajectories = [t for g in ordered for t in g.trajectories]
        scores = [s.value for g in ordered for s in g.scores]
        if not trajectories or None in scores or len(scores) != len(trajectories):
            raise ValueError(f"want an ok score for each trajectory, got {scores} for {len(trajectories)}")
        if any(t.action_mask[0] for t in trajectories):
            raise ValueError("the first token of a trajectory has no state before it, so it is no action")
        lengths = torch.tensor([len(t.token_ids) for t in trajectories])
        versions = [_versions(t, g.policy_version) for g in ordered for t in g.trajectories]
        return cls(
            token_ids=_padded([t.token_ids for t in trajectories], lengths, torch.int64),
            lengths=lengths,
            action_mask=_padded([t.action_mask for t in trajectories], lengths, torch.bool),
            logprob_behaviour=_padded([t.logprobs for t in trajectories], lengths, torch.float32),
            score=torch.tensor(scores, dtype=torch.float64),
            group=torch.tensor([i for i, g in enumerate(ordered) for _ in g.trajectories]),
            is_truncated=torch.tensor([t.finish_reason == "length" for t in trajectories]),
            token_version=_padded(versions, lengths, torch.int64, NO_VERSION),
        )

    @classmethod
    def from_pairs(cls, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> "Batch":
        """Prompts with targets to be imitated: the tokens of the target count as actions, scores are 0.

        Each pair is a group of its own.
        """
        num_rows = len(pairs)
        lengths = torch.tensor([len(prompt) + len(target) for prompt, target in pairs])
        token_ids = _padded([[*prompt, *target] for prompt, target in pairs], lengths, torch.int64)
        prompts = torch.tensor([len(prompt) for prompt, _ in pairs])
        width = token_ids.shape[1]
        return cls(
            token_ids=token_ids,
            lengths=lengths,
            action_mask=real_tokens(lengths, width) & ~real_tokens(prompts, width),
            logprob_behaviour=torch.zeros(num_rows, width),
            score=torch.zeros(num_rows, dtype=torch.float64),
            group=torch.arange(num_rows),
            is_truncated=torch.zeros(num_rows, dtype=torch.bool),
            token_version=torch.full((num_rows, width), NO_VERSION),
        )

    @property
    def num_rows(self) -> int:
        return len(self.lengths)

    @property
    def loss_mask(self) -> Tensor:
        """[B, T] the action tokens that are learned from: all, unless a stream "loss_mask" says otherwise."""
        return self.streams.get("loss_mask", self.action_mask)

    def __getitem__(self, stream: str) -> Tensor:
        if stream not in self.streams:
            raise KeyError(f"the batch has no stream {stream!r}, only {sorted(self.streams)}")
        return self.streams[stream]

    def __contains__(self, stream: str) -> bool:
        return stream in self.streams

    def with_(self, **streams: Tensor) -> "Batch":
        """The batch with these streams added or replaced, each [B, T] or [B].

        Raises:
            ValueError: a stream with another shape.
        """
        for name, stream in streams.items():
            if stream.shape not in (self.token_ids.shape, self.lengths.shape):
                want = tuple(self.token_ids.shape)
                raise ValueError(f"stream {name!r} has shape {tuple(stream.shape)}, want {want} or its rows")
        return replace(self, streams={**self.streams, **streams})

    def select(self, rows: Sequence[int]) -> "Batch":
        """These rows, in this order, without columns in which all of them are padding."""
        index = torch.tensor(rows, dtype=torch.int64, device=self.lengths.device)
        width = int(self.lengths[index].max()) if rows else 0
        return self._map(lambda x: x[index][:, :width] if x.dim() == 2 else x[index])

    def to(self, device: torch.device) -> "Batch":
        return self._map(lambda x: x.to(device))

    def _map(self, change: Any) -> "Batch":
        own = {f.name: change(getattr(self, f.name)) for f in fields(self) if f.name != "streams"}
        return Batch(**own, streams={name: change(stream) for name, stream in self.streams.items()})


def real_tokens(lengths: Tensor, width: int) -> Tensor:
    """True on the tokens of each row, False on padding. [B] -> [B, width]"""
    return torch.arange(width, device=lengths.device) < lengths[:, None]


def _versions(trajectory: Trajectory, policy_version: int) -> Sequence[int]:
    """The version that drew each token; those of another run mean nothing here."""
    if policy_version < 0:
        return (NO_VERSION,) * len(trajectory.token_ids)
    one = trajectory.policy_version_min
    return trajectory.policy_versions or [one if acts else NO_VERSION for acts in trajectory.action_mask]


def _padded(rows: Sequence[Sequence[Any]], lengths: Tensor, dtype: torch.dtype, fill: int = 0) -> Tensor:
    """Ragged rows as one tensor [B, T], filled up past their ends."""
    width = int(lengths.max())
    padded = torch.full((len(rows), width), fill, dtype=dtype)
    padded[real_tokens(lengths, width)] = torch.tensor(list(chain.from_iterable(rows)), dtype=dtype)
    return padded
