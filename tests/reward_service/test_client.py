"""Deadline, retries and matching by id, over wires that misbehave."""

from collections.abc import Sequence

import pytest

from reward_service.client import in_batches
from reward_service.types import Sample, Score, Status
from tests.reward_service.fakes_rewards import sample
from tests.reward_service.fakes_wire import ChaosClient, TapeClient, score_of


def samples(*ids: int) -> list[Sample]:
    return [sample(id=str(i)) for i in ids]


def right(asked: Sequence[Sample]) -> list[Score]:
    return [score_of(s) for s in asked]


def lost(asked: Sequence[Sample]) -> list[Score]:
    raise ConnectionError("the replica died")


def late(asked: Sequence[Sample]) -> list[Score]:
    raise TimeoutError


def failing(status: Status, *ids: str):
    """Answers rightly but for these ids."""

    def act(asked: Sequence[Sample]) -> list[Score]:
        return [Score(id=s.id, status=status, message="no") if s.id in ids else score_of(s) for s in asked]

    return act


@pytest.mark.parametrize("seed", range(20))
def test_each_sample_gets_its_own_score_whatever_happens_on_the_way(seed: int) -> None:
    """S16: random delays, retries, duplicates, answers out of order or of others, lost requests."""
    ids = list(range(seed, seed + 23))
    scores = ChaosClient(seed, num_retries=30).score(samples(*ids))
    assert [s.id for s in scores] == [str(i) for i in ids]
    assert [s.value for s in scores if s.is_ok] == [float(s.id) for s in scores if s.is_ok]
    # What the service itself reports as failed is its last word; a sample that it left out is asked again.
    assert {s.message for s in scores if not s.is_ok} <= {"bad luck"}
    assert sum(s.is_ok for s in scores) >= 10


@pytest.mark.parametrize("seed", range(20))
def test_without_retries_a_sample_has_its_own_score_or_none(seed: int) -> None:
    """S16."""
    for score in ChaosClient(seed, num_retries=0).score(samples(*range(23))):
        assert score.value == (float(score.id) if score.is_ok else None)


def test_an_answer_is_matched_by_id_and_never_by_position() -> None:
    """S16."""
    scores = TapeClient(lambda asked: right(asked)[::-1]).score(samples(1, 2, 3))
    assert [s.value for s in scores] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.OK])
def test_a_failure_that_the_service_reports_is_not_tried_again(status: Status) -> None:
    client = TapeClient(failing(status, "2"))
    assert [s.status for s in client.score(samples(1, 2))] == [Status.OK, status]
    assert client.tape == ["1 2"]


def test_only_what_was_not_answered_is_asked_again() -> None:
    client = TapeClient(lambda asked: right(asked)[:1], lambda asked: right(asked)[1:], right)
    assert [s.value for s in client.score(samples(1, 2, 3))] == [1.0, 2.0, 3.0]
    assert client.tape == ["1 2 3", "pause", "2 3", "pause", "2"]


def test_samples_of_one_prompt_are_never_parted() -> None:
    grouped = [sample(id=str(i), group=g) for i, g in enumerate("aabbbbbcd")] + samples(9, 10, 11)
    # Three at most: a, then b, which alone has five; c, d and the first of those without a group; the others.
    batches = [" ".join(s.id for s in batch) for batch in in_batches(grouped, 3)]
    assert batches == ["0 1", "2 3 4 5 6", "7 8 9", "10 11"]


def test_a_lost_replica_costs_its_batch_a_retry_and_nobody_else() -> None:
    client = TapeClient(right, lost, right, max_batch_size=2)
    assert [s.value for s in client.score(samples(1, 2, 3, 4))] == [1.0, 2.0, 3.0, 4.0]
    assert client.tape == ["1 2", "3 4", "pause", "3 4"]


def test_a_service_that_stays_lost_is_an_error_that_says_so() -> None:
    (score,) = TapeClient(lost, lost, lost).score(samples(1))
    assert (score.status, score.value) == (Status.ERROR, None)
    assert score.message == "the reward service was lost: the replica died"


def test_a_sample_left_out_of_the_answer_is_an_error() -> None:
    (one, two) = TapeClient(lambda asked: right(asked)[:1], num_retries=0).score(samples(1, 2))
    assert one.value == 1.0
    assert (two.status, two.value) == (Status.ERROR, None)


def test_what_is_not_scored_by_the_deadline_is_a_timeout_and_what_is_keeps_its_score() -> None:
    # The pause before a retry would end after a deadline of 1 µs: there is none.
    client = TapeClient(right, late, max_batch_size=2, deadline_s=1e-6)
    scores = client.score(samples(1, 2, 3, 4))
    assert [s.value for s in scores] == [1.0, 2.0, None, None]
    assert [s.status for s in scores[2:]] == [Status.TIMEOUT, Status.TIMEOUT]
    assert scores[2].message == "no score within 1e-06 s"
    assert client.tape == ["1 2", "3 4"]


def test_an_error_of_our_own_is_raised_and_not_scored() -> None:
    def bug(asked: Sequence[Sample]) -> list[Score]:
        raise KeyError("bug")

    with pytest.raises(KeyError, match="bug"):
        TapeClient(bug).score(samples(1))


def test_equal_ids_are_refused_before_anything_is_sent() -> None:
    client = TapeClient()
    with pytest.raises(ValueError, match="have the id '1'"):
        client.score(samples(1, 1))
    assert client.tape == []


def test_no_samples_need_no_request() -> None:
    assert TapeClient().score([]) == []
