"""What failed scores cost, counted by hand."""

import json

import pytest

from cluster.failures import FailureWindow, ScoreTally, is_lasting, length_bucket, losses, lost_share, tell
from reward_service.types import Status
from rollout.reports import Dropped, TaskReport
from rollout.types import Task, Turn
from tests.fakes import SAMPLING, make_failed, make_prompts, make_summary

TURNS = [Turn(epoch=0, index=i, prompt=prompt) for i, prompt in enumerate(make_prompts(3))]


@pytest.mark.parametrize(
    ("num_tokens", "bucket"),
    [(1, "1"), (2, "2"), (3, "3-4"), (4, "3-4"), (5, "5-8"), (8, "5-8"), (9, "9-16"), (1024, "513-1024")],
)
def test_lengths_are_counted_in_powers_of_two(num_tokens, bucket):
    assert length_bucket(num_tokens) == bucket


def dropped(turn, *failed, num_tokens=()):
    return Dropped(
        epoch=turn.epoch, index=turn.index, reason="score_error", failed=failed, num_tokens=num_tokens
    )


def test_failed_scores_are_counted_by_status_and_by_length():
    tally = ScoreTally()
    # Two samples of 3 tokens are ok, one of 3 failed; then one of 3 is ok and falls with one of 9.
    tally.enter(make_summary(TURNS[0], 0, (0.0, 1.0), num_samples=3))
    tally.enter(dropped(TURNS[1], make_failed(0, "timeout", num_tokens=9), num_tokens=(3,)))
    assert tally.metrics() == {
        "reward/failed_error_total": 1.0,
        "reward/failed_timeout_total": 1.0,
        "reward/failed_by_length/3-4": 1.0,
        "reward/failed_by_length/9-16": 1.0,
        "reward/failed_share_by_length/3-4": 1 / 4,
        "reward/failed_share_by_length/9-16": 1.0,
    }


def test_where_nothing_failed_there_is_no_metric():
    tally = ScoreTally()
    tally.enter(make_summary(TURNS[0], 0))
    assert tally.metrics() == {}


def test_a_lost_group_is_not_counted_and_leaves_no_trace():
    tally, other = ScoreTally(), ScoreTally()
    kept = make_summary(TURNS[0], 0, (0.0,), num_samples=2)
    lost = dropped(TURNS[1], make_failed(0, "timeout", num_tokens=9))
    for group in (kept, lost):
        tally.enter(group)
    other.enter(kept)
    tally.withdraw(lost)
    assert tally.state_dict() == other.state_dict()


def test_the_counts_survive_json():
    tally, again = ScoreTally(), ScoreTally()
    tally.enter(make_summary(TURNS[0], 0, (0.0,), num_samples=2))
    again.load_state_dict(json.loads(json.dumps(tally.state_dict())))
    assert again.metrics() == tally.metrics() != {}


def report(*outcomes, num_samples=4):
    task = Task(
        id=0, turns=tuple(TURNS), num_samples=num_samples, sampling=SAMPLING, policy_version=0, seed=0
    )
    groups = tuple(o for o in outcomes if not isinstance(o, Dropped))
    drops = tuple(o for o in outcomes if isinstance(o, Dropped))
    return TaskReport(task=task, groups=groups, dropped=drops, generate_s=0.0, score_s=0.0)


def test_a_dropped_group_is_lost_with_all_its_samples():
    seen = losses(
        report(
            make_summary(TURNS[0], 0, (0.0,) * 4, 4),
            make_summary(TURNS[1], 0, (0.0,) * 3, 4),
            dropped(TURNS[2], make_failed(1, "timeout"), num_tokens=(3, 3, 3)),
        )
    )
    assert {loss.turn.index: loss.num_lost for loss in seen} == {0: 0, 1: 1, 2: 4}
    # 5 of 12 samples, though only 2 scores failed.
    assert lost_share(seen) == 5 / 12
    assert tell(seen).startswith("5 of the last 12 samples could not be scored")
    assert "a fake" in tell(seen)


def test_nothing_seen_is_nothing_lost():
    assert lost_share([]) == 0.0
    assert not is_lasting([])


def test_only_faults_of_the_samples_themselves_last():
    def seen(*statuses):
        return losses(report(dropped(TURNS[0], *(make_failed(0, status) for status in statuses))))

    assert is_lasting(seen(Status.INVALID_INPUT, Status.INVALID_INPUT))
    assert not is_lasting(seen(Status.INVALID_INPUT, Status.TIMEOUT))


def test_a_window_is_bad_when_it_is_full_and_more_than_the_share_is_lost():
    ok, bad = losses(
        report(make_summary(TURNS[0], 0, (0.0,) * 4, 4), dropped(TURNS[1], make_failed(0, "error")))
    )[::-1]
    window = FailureWindow(4, max_share=0.5)
    window.recent.extend([bad, bad, bad])
    assert not window.is_bad
    window.recent.append(ok)
    assert window.is_bad
    window.recent.append(ok)
    # The newest four: two lost, which is the share that may be.
    assert not window.is_bad
