"""Dialogues: who is asked what and when, and what a trajectory of several turns is made of."""

from random import Random

import pytest

from antiphon.seeds import derive
from rollout import environment as stages
from rollout.environments.base import Step
from rollout.environments.single_turn import SingleTurn
from rollout.player import Player
from rollout.types import Sampling, Task, Trajectory
from tests.rollout import fakes_groups as fakes
from tests.rollout.fakes_environments import Counting, Recorder, task


def play(engine: Recorder, wanted: Task | None = None, **options: object) -> list[Trajectory]:
    player = Player(engine, Counting(Counting.Config(**options)), fakes.Words())  # type: ignore[arg-type]
    return [row for _, rows in player.play(wanted or task()) for row in rows]


def number_of(index: int, number: int) -> int:
    """What the environment draws at the start of a sample."""
    return Random(derive(0, "environment", 1, index, number)).randrange(20, 30)


def test_a_dialogue_is_prompt_action_observation_action_and_so_on() -> None:
    first, *_ = play(Recorder(), task(1, 1))
    n = number_of(0, 0)
    # Actions 11, 12, 13; the first is answered by n, the second by n n; the last is not answered.
    assert first.token_ids == (5, 6, 7, 11, n, 12, n, n, 13)
    assert first.action_mask == tuple(map(bool, (0, 0, 0, 1, 0, 1, 0, 0, 1)))
    assert first.logprobs == (0.0, 0.0, 0.0, -0.5, 0.0, -1.0, 0.0, 0.0, -1.5)
    assert first.finish_reason == "stop"
    assert first.completion_text == f"11 {n} 12 {n} {n} 13"


def test_each_action_keeps_the_version_that_drew_it_and_what_the_environment_says_has_none() -> None:
    first, *_ = play(Recorder())
    assert first.policy_versions == (-1, -1, -1, 1, -1, 2, -1, -1, 3)
    assert (first.policy_version_min, first.policy_version_max) == (1, 3)


def test_each_round_asks_for_all_dialogues_at_once_behind_their_own_tokens() -> None:
    engine = Recorder()
    play(engine)
    assert [len(asked) for asked in engine.asked] == [4, 4, 4]
    numbers = [number_of(index, n) for index in (0, 1) for n in (0, 1)]
    assert len(set(numbers)) > 1
    assert [r.token_ids for r in engine.asked[1]] == [(5, 6, 7, 11, n) for n in numbers]


def test_dialogues_that_are_over_are_asked_no_more() -> None:
    class Uneven(Recorder):
        """The first of each round is cut, so that its dialogue is given up."""

        def generate(self, requests):
            done = super().generate(requests)
            cut = stages.Completion(
                token_ids=(9,),
                logprobs=(-1.0,),
                finish_reason="length",
                policy_version_min=0,
                policy_version_max=0,
            )
            return [cut, *done[1:]]

    engine = Uneven()
    rows = play(engine, gives_up=True)
    assert [len(asked) for asked in engine.asked] == [4, 3, 2]
    # In order of the task: the nth was given up after n turns, the last came to its end.
    assert [row.finish_reason for row in rows] == ["length", "length", "length", "stop"]
    assert [sum(row.action_mask) for row in rows] == [1, 2, 3, 3]


def test_the_first_turn_draws_with_the_seed_that_a_single_one_has_and_each_later_one_with_its_own() -> None:
    """Whoever draws a sample, whenever, draws the same."""
    engine, wanted = Recorder(), task(seed=5)
    play(engine, wanted)
    assert engine.asked[0] == stages.requests(wanted)
    first = [derive(5, "sample", 1, i, n) for i in (0, 1) for n in (0, 1)]
    assert [r.seed for r in engine.asked[0]] == first
    expected = [derive(5, "sample", 1, i, n, 2) for i in (0, 1) for n in (0, 1)]
    assert [r.seed for r in engine.asked[2]] == expected
    seeds = [r.seed for asked in engine.asked for r in asked]
    assert len(set(seeds)) == len(seeds) == 12


def test_a_dialogue_is_cut_after_its_turns() -> None:
    (row,) = play(Recorder(), task(1, 1), num_rounds=9, max_turns=2)
    n = number_of(0, 0)
    assert (row.token_ids[3:], row.finish_reason) == ((11, n, 12), "length")


@pytest.mark.parametrize(
    ("max_tokens", "said"),
    [
        # Two tokens an action; the observations have one, two, three tokens.
        (2, "11 11"),
        (3, "11 11"),
        (4, "11 11 n 12"),
        (5, "11 11 n 12 12"),
        (7, "11 11 n 12 12"),
        (8, "11 11 n 12 12 n n 13"),
    ],
)
def test_a_dialogue_is_cut_at_its_tokens_and_never_behind_an_observation(max_tokens: int, said: str) -> None:
    (row,) = play(Recorder(num_tokens=2), task(1, 1), num_rounds=9, max_tokens=max_tokens)
    assert row.completion_text == said.replace("n", str(number_of(0, 0)))
    assert row.finish_reason == "length"


def test_an_action_is_not_asked_for_more_than_the_room_that_is_left() -> None:
    engine = Recorder(num_tokens=2)
    play(engine, task(1, 1, sampling=Sampling(max_new_tokens=3, temperature=0.5)), max_tokens=8)
    # 8 − 0, 8 − 3, 8 − 7
    assert [asked[0].sampling.max_new_tokens for asked in engine.asked] == [3, 3, 1]
    assert {asked[0].sampling.temperature for asked in engine.asked} == {0.5}


def test_the_environment_hears_the_words_that_the_first_answer_began_with() -> None:
    heard = []

    class Listening(Counting):
        def step(self, state, action, is_cut):
            heard.append(action)
            return super().step(state, action, is_cut)

    wanted = task(1, 1)
    turn = stages.Turn(epoch=0, index=0, prompt=fakes.prompt(prefill="well, "))
    player = Player(Recorder(), Listening(Counting.Config()), fakes.Words())
    ((_, (row,)),) = player.play(
        Task(**{f: getattr(wanted, f) for f in wanted.__slots__} | {"turns": (turn,)})
    )
    assert heard == ["well, 11", "12", "13"]
    assert row.completion_text.startswith("well, 11 ")


@pytest.mark.parametrize(("num_tokens", "reason"), [(1, "stop"), (9, "length")])
def test_a_single_turn_is_what_was_drawn(num_tokens: int, reason: str) -> None:
    engine, wanted = Recorder(num_tokens), task()
    played = Player(engine, SingleTurn(SingleTurn.Config()), fakes.Words()).play(wanted)
    assert engine.asked == [stages.requests(wanted)]
    assert [turn for turn, _ in played] == list(wanted.turns)
    again = Recorder(num_tokens).generate(stages.requests(wanted))
    expected = [stages.trajectory(fakes.prompt(), c, fakes.decode) for c in again]
    assert [row for _, rows in played for row in rows] == expected
    assert {row.finish_reason for row in expected} == {reason}


def test_a_dialogue_that_is_done_is_not_answered() -> None:
    with pytest.raises(ValueError, match="not answered, got 'more'"):
        Step(state=None, observation="more", is_done=True)


def test_observations_stand_between_completions() -> None:
    c = fakes.completion()
    for completions, observations in (([c], [(1,)]), ([c, c], []), ([], [])):
        with pytest.raises(ValueError, match="observations stand between"):
            stages.dialogue(fakes.prompt(), completions, observations, "stop", fakes.decode)
