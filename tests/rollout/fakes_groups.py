"""Small prompts, completions and groups, for tests that need some."""

from collections.abc import Sequence
from typing import Any

from reward_service.types import Score, Status, Usage
from rollout import environment
from rollout.types import Completion, FinishReason, Group, Prompt, Turn, several


def prompt(token_ids: Sequence[int] = (5, 6, 7), **fields: Any) -> Prompt:
    values: dict[str, Any] = {"id": "sort/21", "text": "sort 21=", "reference": "12"}
    return Prompt(**{**values, "token_ids": tuple(token_ids), **fields})


def completion(
    token_ids: Sequence[int] = (8, 2),
    logprobs: Sequence[float] = (-0.5, -0.25),
    finish_reason: FinishReason = "stop",
) -> Completion:
    """Drawn by version 3, the last of several tokens by version 4."""
    versions = (3,) * (len(token_ids) - 1) + (4,) if len(token_ids) > 1 else (3,)
    return Completion(
        token_ids=tuple(token_ids),
        logprobs=tuple(logprobs),
        finish_reason=finish_reason,
        policy_version_min=3,
        policy_version_max=versions[-1],
        policy_versions=several(versions),
    )


def decode(token_ids: Sequence[int]) -> str:
    """The ids as words: a view that cannot be mistaken for tokens."""
    return " ".join(map(str, token_ids))


class Words:
    """Text as tokens: an observation is ids in words, too."""

    def decode(self, token_ids: Sequence[int]) -> str:
        return decode(token_ids)

    def observation_ids(self, observation: str, last: int) -> tuple[int, ...]:
        return tuple(map(int, observation.split()))


def group(turn: Turn, completions: Sequence[Completion], decode: environment.Decode = decode) -> Group:
    """Scored 0.0, 0.5, 1.0, … in order."""
    trajectories = [environment.trajectory(turn.prompt, c, decode) for c in completions]
    scores = [
        Score(
            id=sample.id,
            status=Status.OK,
            value=number / 2,
            parts={"exact": number / 2, "length": -0.1},
            latency_s=0.25,
            usage=Usage(num_requests=1, num_tokens=7 + number, money=0.125),
        )
        for number, sample in enumerate(environment.samples(turn, trajectories))
    ]
    return environment.group(turn, trajectories, scores, policy_version=3)
