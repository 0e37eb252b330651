"""What a failed score costs: its sample, or the whole group where the task says so."""

import re

import pytest

from antiphon.privacy import NOTHING_MASKED, Masker
from reward_service.types import Score, Status
from rollout.environments.single_turn import SingleTurn
from rollout.player import Player
from rollout.reports import FailedScore
from rollout.types import Sampling, Task, Turn
from rollout.worker import Worker
from tests.rollout import fakes_groups as fakes


class CountingEngine:
    """The completion of the nth request has n + 1 tokens."""

    def generate(self, requests):
        return [fakes.completion((8,) * n + (2,), (-0.5,) * (n + 1)) for n in range(len(requests))]


class FakeRewards:
    """Every sample scores the number of its tokens, except for those that fail."""

    def __init__(self, failures):
        self.failures = failures

    def score(self, samples):
        return [self._judge(sample) for sample in samples]

    def _judge(self, sample):
        if sample.id in self.failures:
            return Score(id=sample.id, status=self.failures[sample.id], message=f"no {sample.id}")
        value = float(sample.num_tokens)
        return Score(id=sample.id, status=Status.OK, value=value, parts={"length": value})


def run(failures, *, needs_whole_groups, num_turns=2, masker=NOTHING_MASKED):
    task = Task(
        id=0,
        turns=tuple(Turn(epoch=0, index=i, prompt=fakes.prompt()) for i in range(num_turns)),
        num_samples=3,
        sampling=Sampling(),
        policy_version=7,
        seed=0,
        needs_whole_groups=needs_whole_groups,
    )
    player = Player(CountingEngine(), SingleTurn(SingleTurn.Config()), fakes.Words())
    return Worker(player, FakeRewards(failures), masker).run(task)


def test_only_the_failed_sample_is_left_out_and_the_others_keep_their_scores():
    result = run({"0/0/1": Status.TIMEOUT}, needs_whole_groups=False)
    first, second = result.groups
    # Samples 0 and 2 of the first prompt have 1 and 3 tokens; the second prompt's have 4, 5, 6.
    assert [(s.id, s.value) for s in first.scores] == [("0/0/0", 1.0), ("0/0/2", 3.0)]
    assert [sum(t.action_mask) for t in first.trajectories] == [1, 3]
    assert [s.value for s in second.scores] == [4.0, 5.0, 6.0]
    told, whole = result.report.groups
    failed = FailedScore(number=1, status=Status.TIMEOUT, num_tokens=2, message="no 0/0/1")
    assert (told.rewards, told.num_tokens, told.failed) == ((1.0, 3.0), (1, 3), (failed,))
    assert whole.failed == ()
    assert result.report.dropped == ()


def test_what_leaves_the_worker_is_masked_in_groups_and_in_reports():
    """Mutation: a worker that masks its groups only still tells what a reward said."""
    masker = Masker({"word": lambda text: [m.span() for m in re.finditer("no|sort", text)]})
    result = run({"0/0/1": Status.TIMEOUT}, needs_whole_groups=False, masker=masker)
    assert [group.prompt.text for group in result.groups] == ["[word] 21="] * 2
    assert result.report.groups[0].failed[0].message == "[word] 0/0/1"


def test_a_group_whose_samples_are_compared_falls_with_one_of_them():
    result = run({"0/0/1": Status.TIMEOUT}, needs_whole_groups=True)
    assert [group.key for group in result.groups] == [(0, 1)]
    (dropped,) = result.report.dropped
    assert (dropped.key, dropped.reason, dropped.message) == ((0, 0), "score_timeout", "no 0/0/1")
    assert dropped.num_tokens == (1, 3)
    assert [(f.number, f.num_tokens) for f in dropped.failed] == [(1, 2)]


@pytest.mark.parametrize("needs_whole_groups", [True, False])
def test_a_group_without_any_score_is_dropped(needs_whole_groups):
    failures = dict.fromkeys(["0/0/0", "0/0/1", "0/0/2"], Status.ERROR)
    result = run(failures, needs_whole_groups=needs_whole_groups)
    assert [group.key for group in result.groups] == [(0, 1)]
    (dropped,) = result.report.dropped
    assert (dropped.reason, dropped.num_tokens, len(dropped.failed)) == ("score_error", (), 3)


def test_every_sample_is_told_once_whatever_its_score():
    failures = {"0/0/0": Status.ERROR, "0/1/2": Status.UNPARSEABLE, "0/1/1": Status.TIMEOUT}
    for needs_whole_groups in (True, False):
        report = run(failures, needs_whole_groups=needs_whole_groups).report
        parts = [*report.groups, *report.dropped]
        lengths = [n for p in parts for n in (*p.num_tokens, *(f.num_tokens for f in p.failed))]
        assert sorted(lengths) == [1, 2, 3, 4, 5, 6]
