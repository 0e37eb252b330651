"""The single-turn environment: one prompt, one completion, one score.

    Task --requests--> engine --Completion--> trajectory --samples--> reward service --Score--> group

Pure functions; the rollout worker calls them in this order. They know neither the engine nor the service.
"""

from collections.abc import Callable, Sequence

from antiphon.seeds import derive
from reward_service.types import Sample, Score
from rollout.types import Completion, Group, Prompt, Request, Task, Trajectory, Turn

Decode = Callable[[Sequence[int]], str]


def requests(task: Task) -> list[Request]:
    """What the engine is asked for: `task.num_samples` times each prompt, the samples of one prompt together.

    The seed of a request is a hash of its name, so a sample is the same whoever draws it, whenever.
    """
    return [
        Request(
            token_ids=turn.prompt.token_ids,
            sampling=task.sampling,
            seed=derive(task.seed, "sample", turn.epoch, turn.index, number),
        )
        for turn in task.turns
        for number in range(task.num_samples)
    ]


def trajectory(prompt: Prompt, completion: Completion, decode: Decode) -> Trajectory:
    """Prompt and completion as one sequence, exactly the tokens that were drawn: none added, none cut.

    Raises:
        ValueError: the completion is empty, or its log-probs are not one per token.
    """
    num_drawn = len(completion.token_ids)
    if num_drawn == 0 or len(completion.logprobs) != num_drawn:
        raise ValueError(
            f"a completion needs at least one token and one log-prob each, "
            f"got {num_drawn} tokens and {len(completion.logprobs)} log-probs"
        )
    num_given = len(prompt.token_ids)
    return Trajectory(
        token_ids=prompt.token_ids + completion.token_ids,
        action_mask=(False,) * num_given + (True,) * num_drawn,
        logprobs=(0.0,) * num_given + completion.logprobs,
        finish_reason=completion.finish_reason,
        policy_version_min=completion.policy_version_min,
        policy_version_max=completion.policy_version_max,
        completion_text=prompt.prefill + decode(completion.token_ids),
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
