import pytest

from reward_service.types import Score, Status
from rollout import environment, tiny
from rollout.types import Sampling, Task, Turn
from tests.rollout import fakes_groups as fakes


def turn(index: int = 17) -> Turn:
    return Turn(epoch=1, index=index, prompt=fakes.prompt())


def task(*turns: Turn, seed: int = 0, num_samples: int = 2, task_id: int = 5) -> Task:
    return Task(
        id=task_id, turns=turns, num_samples=num_samples, sampling=Sampling(), policy_version=3, seed=seed
    )


def test_requests_come_prompt_by_prompt_each_with_a_seed_of_its_own() -> None:
    asked = environment.requests(task(turn(17), turn(18)))
    assert len(asked) == 4
    assert len({r.seed for r in asked}) == 4
    assert all(r.token_ids == (5, 6, 7) for r in asked)


def test_the_seed_of_a_sample_does_not_depend_on_the_task_it_is_part_of() -> None:
    """S16: whoever draws a sample, whenever, draws the same."""
    together = environment.requests(task(turn(17), turn(18)))
    alone = environment.requests(task(turn(18), task_id=99))
    assert [r.seed for r in together[2:]] == [r.seed for r in alone]
    assert [r.seed for r in alone] != [r.seed for r in environment.requests(task(turn(18), seed=1))]


# Each case of S3: what was drawn, and why it ended. Token 2 ends a completion; 0 pads, and may be drawn.
ENDINGS = {
    "eos last": ((8, 9, 2), "stop"),
    "eos only": ((2,), "stop"),
    "truncated": ((8, 9, 10), "length"),
    "truncated on the very token that would have ended it": ((8, 9, 2), "length"),
    "the pad token was drawn": ((8, 0, 2), "stop"),
    "the pad token ends it": ((8, 0), "stop"),
    "a second stop token": ((8, 11), "stop"),
}


@pytest.mark.parametrize("case", ENDINGS)
def test_a_trajectory_is_what_was_drawn_and_nothing_else(case: str) -> None:
    """S3: the mask counts the tokens drawn, eos once; nothing is forced; truncation is the finish reason."""
    drawn, reason = ENDINGS[case]
    logprobs = tuple(-0.1 * (n + 1) for n in range(len(drawn)))
    completion = fakes.completion(drawn, logprobs, reason)
    t = environment.trajectory(fakes.prompt(), completion, fakes.decode)
    assert t.token_ids == (5, 6, 7, *drawn)
    assert t.action_mask == (False,) * 3 + (True,) * len(drawn)
    assert t.logprobs == (0.0, 0.0, 0.0, *logprobs)
    (sample,) = environment.samples(turn(), [t])
    assert sample.num_tokens == len(drawn)
    assert sample.is_truncated == (reason == "length")


def test_an_empty_or_ragged_completion_is_refused() -> None:
    """S3"""
    for drawn, logprobs in (((), ()), ((8, 2), (-0.5,))):
        with pytest.raises(ValueError, match="at least one token and one log-prob each"):
            environment.trajectory(fakes.prompt(), fakes.completion(drawn, logprobs), fakes.decode)


def test_rewards_see_a_prefilled_answer_before_the_completion() -> None:
    """S9"""
    prompt = fakes.prompt(prefill="<think>")
    decode = tiny.build_tokenizer().decode
    t = environment.trajectory(prompt, fakes.completion((19, 20), (-1.0, -1.0)), decode)
    (sample,) = environment.samples(Turn(epoch=0, index=0, prompt=prompt), [t])
    assert sample.completion == "<think>12"


def test_scores_find_their_trajectory_by_id() -> None:
    """S16: in whatever order they come, and whoever else's come with them."""
    trajectories = [
        environment.trajectory(fakes.prompt(), fakes.completion((8 + n, 2)), fakes.decode) for n in range(3)
    ]
    asked = environment.samples(turn(), trajectories)
    assert [s.id for s in asked] == ["1/17/0", "1/17/1", "1/17/2"]
    scores = [Score(id=s.id, status=Status.OK, value=float(s.completion.split()[0])) for s in asked]
    stranger = Score(id="1/18/0", status=Status.OK, value=-1.0)
    group = environment.group(turn(), trajectories, [stranger, *reversed(scores)], policy_version=3)
    assert [s.value for s in group.scores] == [8.0, 9.0, 10.0]
    assert (group.key, group.policy_version) == ((1, 17), 3)


def test_a_group_with_a_failed_or_missing_score_is_refused() -> None:
    t = environment.trajectory(fakes.prompt(), fakes.completion(), fakes.decode)
    failed = Score(id="1/17/0", status=Status.TIMEOUT)
    for scores in ([], [failed]):
        with pytest.raises(ValueError, match="an ok score for each trajectory"):
            environment.group(turn(), [t], scores, policy_version=3)


def test_a_group_that_need_not_be_whole_leaves_failed_scores_out() -> None:
    trajectories = [
        environment.trajectory(fakes.prompt(), fakes.completion((8 + n, 2)), fakes.decode) for n in range(3)
    ]
    ok = [Score(id=f"1/17/{n}", status=Status.OK, value=float(n)) for n in (2, 0)]
    failed = Score(id="1/17/1", status=Status.ERROR)
    group = environment.group(turn(), trajectories, [failed, *ok], policy_version=3, is_whole=False)
    assert [(s.id, t.token_ids[3]) for s, t in zip(group.scores, group.trajectories, strict=True)] == [
        ("1/17/0", 8),
        ("1/17/2", 10),
    ]


def test_a_missing_score_is_refused_though_the_group_need_not_be_whole() -> None:
    t = environment.trajectory(fakes.prompt(), fakes.completion(), fakes.decode)
    ok, failed = Score(id="1/17/0", status=Status.OK, value=1.0), Score(id="1/17/0", status=Status.ERROR)
    for trajectories, scores in (([t, t], [ok]), ([t], [failed]), ([], [])):
        with pytest.raises(ValueError, match="an ok score for each trajectory"):
            environment.group(turn(), trajectories, scores, policy_version=3, is_whole=False)
