"""Deadline, retries and matching by id, over wires that misbehave."""

from collections.abc import Sequence

import pytest

from reward_service.client import RETRYABLE
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
    assert [s.value for s in scores] == [float(i) for i in ids]


@pytest.mark.parametrize("seed", range(20))
def test_without_retries_a_sample_has_its_own_score_or_none(seed: int) -> None:
    """S16."""
    for score in ChaosClient(seed, num_retries=0).score(samples(*range(23))):
        assert score.value == (float(score.id) if score.is_ok else None)


def test_an_answer_is_matched_by_id_and_never_by_position() -> None:
    """S16."""
    scores = TapeClient(lambda asked: right(asked)[::-1]).score(samples(1, 2, 3))
    assert [s.value for s in scores] == [1.0, 2.0, 3.0]


def test_only_what_failed_is_tried_again() -> None:
    client = TapeClient(failing(Status.ERROR, "2", "3"), failing(Status.UNPARSEABLE, "3"), right)
    assert [s.value for s in client.score(samples(1, 2, 3))] == [1.0, 2.0, 3.0]
    assert client.tape == ["1 2 3", "pause", "2 3", "pause", "3"]


def test_invalid_input_is_never_tried_again() -> None:
    client = TapeClient(failing(Status.INVALID_INPUT, "2"))
    assert [s.status for s in client.score(samples(1, 2))] == [Status.OK, Status.INVALID_INPUT]
    assert client.tape == ["1 2"]
    assert Status.INVALID_INPUT not in RETRYABLE


def test_after_the_last_retry_the_failure_is_the_answer() -> None:
    client = TapeClient(*[failing(Status.ERROR, "1")] * 3, num_retries=2)
    (score,) = client.score(samples(1))
    assert (score.status, score.message) == (Status.ERROR, "no")
    assert client.tape == ["1", "pause", "1", "pause", "1"]


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
