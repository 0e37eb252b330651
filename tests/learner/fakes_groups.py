"""Groups and batches written out by hand, for the tests of the learner."""

import random
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from learner.batch import Batch
from reward_service.types import Score, Status
from rollout.types import NO_VERSION, FinishReason, Group, Prompt, Trajectory


def trajectory(
    prompt: Sequence[int],
    completion: Sequence[int],
    *,
    logprobs: Sequence[float] | None = None,
    finish_reason: FinishReason = "stop",
    version: int = 0,
) -> Trajectory:
    """All tokens of the completion are actions; without log-probs they are −1."""
    drawn = tuple(logprobs) if logprobs is not None else (-1.0,) * len(completion)
    return Trajectory(
        token_ids=(*prompt, *completion),
        action_mask=(False,) * len(prompt) + (True,) * len(completion),
        logprobs=(0.0,) * len(prompt) + drawn,
        finish_reason=finish_reason,
        policy_version_min=version,
        policy_version_max=version,
        completion_text="",
    )


def group(
    index: int, trajectories: Sequence[Trajectory], scores: Sequence[float], *, version: int = 0
) -> Group:
    """A scored group of epoch 0, all of it drawn by `version` unless its trajectories say who drew what; the
    prompt is what stands before the first action."""
    first = trajectories[0]
    prompt = first.token_ids[: first.action_mask.index(True)]
    return Group(
        epoch=0,
        index=index,
        prompt=Prompt(id=str(index), token_ids=prompt, text=f"prompt {index}"),
        policy_version=version,
        trajectories=tuple(t if t.policy_versions else _drawn_by(version, t) for t in trajectories),
        scores=tuple(Score(id=f"{index}/{i}", status=Status.OK, value=s) for i, s in enumerate(scores)),
    )


def _drawn_by(version: int, trajectory: Trajectory) -> Trajectory:
    return replace(trajectory, policy_version_min=version, policy_version_max=version)


def random_groups(
    num_groups: int,
    num_samples: int,
    *,
    vocab_size: int = 32,
    prompt_tokens: tuple[int, int] = (2, 9),
    completion_tokens: tuple[int, int] = (1, 12),
    seed: int = 0,
    version: int = 0,
) -> list[Group]:
    """Ragged groups: lengths are drawn from the ranges, both ends included."""
    draw = random.Random(seed)

    def ids(bounds: tuple[int, int]) -> list[int]:
        return [draw.randrange(vocab_size) for _ in range(draw.randint(*bounds))]

    groups = []
    for index in range(num_groups):
        prompt = ids(prompt_tokens)
        rows = [
            trajectory(prompt, ids(completion_tokens), finish_reason=draw.choice(["stop", "length"]))
            for _ in range(num_samples)
        ]
        groups.append(group(index, rows, [draw.random() for _ in rows], version=version))
    return groups


def batch_of(mask: Tensor, score: Tensor, group_numbers: Tensor | None = None) -> Batch:
    """A batch of token 1 everywhere, as long as its mask is wide."""
    num_rows, width = mask.shape
    return Batch(
        token_ids=torch.ones(num_rows, width, dtype=torch.int64),
        lengths=torch.full((num_rows,), width),
        action_mask=mask,
        logprob_behaviour=torch.where(mask, -1.0, 0.0),
        score=score.double(),
        group=torch.arange(num_rows) if group_numbers is None else group_numbers,
        is_truncated=torch.zeros(num_rows, dtype=torch.bool),
        token_version=torch.where(mask, 0, NO_VERSION),
    )
