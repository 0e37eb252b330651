"""The stages from a task to a group: what is asked, what a trajectory is made of, what is scored.

    Task --request--> engine --Completion--> trajectory --samples--> reward service --Score--> group

Pure functions; the player and the rollout worker call them in this order. They know neither the engine nor
the service, nor what the environments (rollout/environments) say between one completion and the next.
"""

from collections.abc import Callable, Sequence

from antiphon.seeds import derive
from reward_service.types import Sample, Score
from rollout.types import (
    NO_VERSION,
    Completion,
    FinishReason,
    Group,
    Prompt,
    Request,
    Task,
    Trajectory,
    Turn,
    several,
)

Decode = Callable[[Sequence[int]], str]


def requests(task: Task) -> list[Request]:
    """What the engine is asked for first: `task.num_samples` times each prompt, the samples of one prompt
    together."""
    return [
        request(task, turn, number, token_ids=turn.prompt.token_ids)
        for turn in task.turns
        for number in range(task.num_samples)
    ]


def request(
    task: Task,
    turn: Turn,
    number: int,
    *,
    token_ids: tuple[int, ...],
    round_number: int = 0,
    max_new_tokens: int | None = None,
) -> Request:
    """The next action of one sample, behind these tokens.

    The seed of a request is a hash of its name, so a sample is the same whoever draws it, whenever.

    Args:
        round_number: actions that came before.
        max_new_tokens: None or the task's own: as its sampling says.
    """
    later = (round_number,) if round_number else ()
    sampling = task.sampling
    if max_new_tokens is not None and max_new_tokens != sampling.max_new_tokens:
        sampling = sampling.model_copy(update={"max_new_tokens": max_new_tokens})
    return Request(
        token_ids=token_ids,
        sampling=sampling,
        seed=derive(task.seed, "sample", turn.epoch, turn.index, number, *later),
    )


def trajectory(prompt: Prompt, completion: Completion, decode: Decode) -> Trajectory:
    """Prompt and completion as one sequence, exactly the tokens that were drawn: none added, none cut.

    Raises:
        ValueError: the completion is empty, or its log-probs are not one per token.
    """
    return dialogue(prompt, [completion], [], completion.finish_reason, decode)


def dialogue(
    prompt: Prompt,
    completions: Sequence[Completion],
    observations: Sequence[Sequence[int]],
    finish_reason: FinishReason,
    decode: Decode,
) -> Trajectory:
    """Prompt, completion, observation, completion, … as one sequence that ends with a completion.

    Raises:
        ValueError: a completion is empty, or its log-probs are not one per token; or there is not one
            observation between each two completions.
    """
    if len(completions) != len(observations) + 1:
        raise ValueError(
            f"observations stand between completions, got {len(completions)} completions and "
            f"{len(observations)} observations"
        )
    token_ids, action_mask = [*prompt.token_ids], [False] * len(prompt.token_ids)
    logprobs = [0.0] * len(prompt.token_ids)
    versions = [NO_VERSION] * len(prompt.token_ids)
    for completion, observed in zip(completions, [*observations, ()], strict=True):
        num_drawn = _num_drawn(completion)
        token_ids += [*completion.token_ids, *observed]
        action_mask += [True] * num_drawn + [False] * len(observed)
        logprobs += [*completion.logprobs, *([0.0] * len(observed))]
        versions += [*_versions(completion), *([NO_VERSION] * len(observed))]
    return Trajectory(
        token_ids=tuple(token_ids),
        action_mask=tuple(action_mask),
        logprobs=tuple(logprobs),
        finish_reason=finish_reason,
        policy_version_min=min(c.policy_version_min for c in completions),
        policy_version_max=max(c.policy_version_max for c in completions),
        policy_versions=several(versions),
        completion_text=prompt.prefill + decode(token_ids[len(prompt.token_ids) :]),
    )


def samples(turn: Turn, trajectories: Sequence[Trajectory], policy_version: int = 0) -> list[Sample]:
    """What the reward service is asked to judge; the id says epoch, index and number: "0/17/2"."""
    return [
        Sample(
            id=f"{turn.epoch}/{turn.index}/{number}",
            prompt=turn.prompt.text,
            completion=t.completion_text,
            reference=turn.prompt.reference,
            metadata=turn.prompt.metadata,
            num_tokens=sum(t.action_mask),
            is_truncated=t.finish_reason == "length",
            group=f"{turn.epoch}/{turn.index}",
            policy_version=policy_version,
        )
        for number, t in enumerate(trajectories)
    ]


def group(
    turn: Turn,
    trajectories: Sequence[Trajectory],
    scores: Sequence[Score],
    *,
    policy_version: int,
    is_whole: bool = True,
) -> Group:
    """The trajectories of one prompt with their scores, matched by id and never by position.

    Unless it `is_whole`, trajectories whose score failed are left out.

    Raises:
        ValueError: a trajectory has no score, or one that is not ok though the group is whole, or none is ok
            (the caller drops such a group first).
    """
    by_id = {score.id: score for score in scores}
    wanted = [sample.id for sample in samples(turn, trajectories)]
    unfit = [i for i in wanted if i not in by_id or (is_whole and not by_id[i].is_ok)]
    kept = [n for n, i in enumerate(wanted) if not unfit and by_id[i].is_ok]
    if unfit or not kept:
        raise ValueError(f"a group needs an ok score for each trajectory, missing for {unfit or 'all'}")
    return Group(
        epoch=turn.epoch,
        index=turn.index,
        prompt=turn.prompt,
        policy_version=policy_version,
        trajectories=tuple(trajectories[n] for n in kept),
        scores=tuple(by_id[wanted[n]] for n in kept),
    )


def _num_drawn(completion: Completion) -> int:
    num_drawn = len(completion.token_ids)
    if num_drawn == 0 or len(completion.logprobs) != num_drawn:
        raise ValueError(
            f"a completion needs at least one token and one log-prob each, "
            f"got {num_drawn} tokens and {len(completion.logprobs)} log-probs"
        )
    return num_drawn


def _versions(completion: Completion) -> tuple[int, ...]:
    """The version that drew each token."""
    return completion.policy_versions or (completion.policy_version_min,) * len(completion.token_ids)
