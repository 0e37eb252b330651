"""One type per stage on the way from a prompt to a group that can be learned from. All frozen.

Prompt --Task--> engine --Completion--> Trajectory --Score--> Group
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from antiphon.settings import Settings
from reward_service.types import Score

FinishReason = Literal["stop", "length"]

NO_VERSION = -1
"""The policy version of what no policy drew."""


class Sampling(Settings):
    """How tokens are drawn. Every field is explicit; a model folder's generation_config is never read."""

    temperature: float = Field(1.0, ge=0.0)
    """Logits are divided by it; 0 takes the most probable token."""
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    """Keep the smallest set of tokens with this mass; below 1 for evaluation only (see learner)."""
    top_k: int = Field(0, ge=0)
    """Keep this many tokens; 0 keeps all."""
    beta: float = Field(0.0, ge=0.0, allow_inf_nan=False)
    """Weight of Q − V in the logits, for algorithms whose actors play a Q function: p ∝ π · exp(β (Q − V))
    over what truncation keeps. 0 plays the model alone; the larger, the nearer to the best Q."""
    epsilon: float = Field(0.0, ge=0.0, le=1.0)
    """Share of tokens that are drawn uniformly from what truncation keeps. With a large vocabulary set top_k
    too: most words of it are junk in any place."""
    max_new_tokens: int = Field(64, ge=1)
    """A completion that reaches it ends with finish reason "length". Where a sample is a dialogue, it bounds
    each of the policy's turns."""
    stop_token_ids: tuple[int, ...] = ()
    """Drawing one of them ends the completion; it is part of the completion. Empty: the tokenizer's eos."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What a completion answers."""

    id: str
    """Stable across runs and epochs; unique within its source."""
    token_ids: tuple[int, ...]
    text: str
    """A view of the tokens for rewards and people."""
    reference: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able; travels to the reward components."""
    prefill: str = ""
    """The first words of the answer where the prompt already holds them; rewards see them as said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One completion asked of an engine."""

    token_ids: tuple[int, ...]
    sampling: Sampling
    seed: int
    """What this completion draws depends on nothing but its tokens, the weights and this seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """The token ids that one generation produced."""

    token_ids: tuple[int, ...]
    """At least one; the stop token, if drawn, is the last."""
    logprobs: tuple[float, ...]
    """Log-probability of each token under the distribution that it was drawn from; same length."""
    finish_reason: FinishReason
    policy_version_min: int
    policy_version_max: int
    """Oldest and newest policy version that drew a token of it."""
    policy_versions: tuple[int, ...] = ()
    """The version that drew each token, where there were several; empty where one drew them all."""

    def __post_init__(self) -> None:
        _check_versions(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A prompt's place in the order of dispatch: which pass over the data, and which place in that pass."""

    epoch: int
    index: int
    prompt: Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One dispatch to a rollout worker: some prompts, each to be completed `num_samples` times.

    Its result depends on its fields and the weights alone, never on which worker runs it.
    """

    id: int
    turns: tuple[Turn, ...]
    num_samples: int
    sampling: Sampling
    policy_version: int
    """The confirmed version at dispatch; lag is counted from it."""
    seed: int
    """The seed of the run; each sample derives its own from it, the epoch, the index and its number."""
    needs_whole_groups: bool = True
    """A failed score costs the whole group (its samples are compared with each other), or only its sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """Prompt and completion as one sequence of tokens; of a dialogue, prompt, action, observation, action, …
    All tuples have the same length T."""

    token_ids: tuple[int, ...]
    action_mask: tuple[bool, ...]
    """True on the tokens that the policy drew."""
    logprobs: tuple[float, ...]
    """Behaviour log-probability on action tokens, 0.0 elsewhere."""
    finish_reason: FinishReason
    policy_version_min: int
    policy_version_max: int
    completion_text: str
    """A view for rewards and people, of a dialogue with all that was said in it; nothing reads it back into
    tokens."""
    policy_versions: tuple[int, ...] = ()
    """The version that drew each action token, where there were several, and NO_VERSION on the others; empty
    where one version drew them all."""

    def __post_init__(self) -> None:
        _check_versions(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The trajectories of one prompt, scored: all that were drawn, or those whose score is ok."""

    epoch: int
    index: int
    prompt: Prompt
    policy_version: int
    """The version at dispatch."""
    trajectories: tuple[Trajectory, ...]
    scores: tuple[Score, ...]
    """One per trajectory, in the same order, all ok; the id of each says which sample it was."""

    @property
    def key(self) -> tuple[int, int]:
        """The name of the group in the ledger: (epoch, index)."""
        return self.epoch, self.index

    @property
    def oldest_version(self) -> int:
        """The oldest policy version that drew a token of it: what its age is counted from. It is that at
        dispatch, or a later one where new weights came before the first token."""
        return min(t.policy_version_min for t in self.trajectories)

    @property
    def num_action_tokens(self) -> int:
        return sum(sum(t.action_mask) for t in self.trajectories)

    @property
    def num_tokens(self) -> int:
        """Of all trajectories, the prompt counted in each."""
        return sum(len(t.token_ids) for t in self.trajectories)


def several(versions: Sequence[int]) -> tuple[int, ...]:
    """Versions per token as Completion and Trajectory hold them: empty where one version drew all.

    Example:
        >>> several((3, 3)), several((3, 4))
        ((), (3, 4))
    """
    return tuple(versions) if len(set(versions) - {NO_VERSION}) > 1 else ()


def _check_versions(drawn: Completion | Trajectory) -> None:
    """
    Raises:
        ValueError: there are versions per token, and they do not fit the tokens or their range.
    """
    if not drawn.policy_versions:
        return
    versions = set(drawn.policy_versions) - {NO_VERSION}
    is_range = versions and (min(versions), max(versions)) == (
        drawn.policy_version_min,
        drawn.policy_version_max,
    )
    if len(drawn.policy_versions) != len(drawn.token_ids) or not is_range:
        raise ValueError(
            f"{len(drawn.token_ids)} tokens drawn by versions {drawn.policy_version_min} to "
            f"{drawn.policy_version_max} cannot be of the versions {drawn.policy_versions}"
        )
