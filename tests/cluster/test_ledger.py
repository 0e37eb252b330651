import random

import pytest

from cluster.admission import num_admissible
from cluster.ledger import Ledger


def test_every_group_is_trained_dropped_or_in_flight():
    ledger = Ledger()
    a, b, c, d = ledger.dispatch(4, version=0)
    ledger.accept(a)
    ledger.accept(b)
    ledger.drop(c, "score_timeout")
    ledger.train(a)
    ledger.check()
    # 4 dispatched = 1 trained (a) + 1 dropped (c) + 2 in flight (b in the replay, d running)
    assert (ledger.num_dispatched, ledger.num_trained, ledger.num_in_flight) == (4, 1, 2)
    assert ledger.dropped == {"score_timeout": 1}
    assert list(ledger.running) == [d]


def test_a_lost_group_is_given_out_again_before_any_new_one():
    ledger = Ledger()
    ledger.dispatch(2, version=0)
    ledger.reissue(0)
    assert ledger.dispatch(2, version=1) == [0, 2]
    ledger.check()


def test_no_group_is_trained_twice():
    ledger = Ledger()
    (position,) = ledger.dispatch(1, version=0)
    ledger.accept(position)
    ledger.train(position)
    with pytest.raises(KeyError):
        ledger.train(position)


def test_what_ran_when_the_state_was_written_is_given_out_again_after_a_resume():
    ledger = Ledger()
    ledger.dispatch(3, version=0)
    ledger.accept(1)
    resumed = Ledger()
    resumed.load_state_dict(ledger.state_dict())
    resumed.check()
    assert resumed.accepted == {1: 0}
    assert resumed.dispatch(3, version=0) == [0, 2, 3]


@pytest.mark.parametrize("seed", range(20))
def test_the_sum_holds_under_random_losses_drops_and_restarts(seed):
    rng, ledger, trained = random.Random(seed), Ledger(), []
    for version in range(200):
        action = rng.choice(["dispatch", "accept", "drop", "reissue", "train", "restart"])
        if action == "dispatch":
            ledger.dispatch(rng.randint(1, 4), version)
        elif action == "train" and ledger.accepted:
            trained.append(rng.choice(list(ledger.accepted)))
            ledger.train(trained[-1])
        elif action == "restart":
            state, ledger = ledger.state_dict(), Ledger()
            ledger.load_state_dict(state)
        elif action in ("accept", "drop", "reissue") and ledger.running:
            position = rng.choice(list(ledger.running))
            ledger.drop(position, "why") if action == "drop" else getattr(ledger, action)(position)
        ledger.check()
    assert len(trained) == len(set(trained)) == ledger.num_trained


def admissible(**changes):
    numbers = {
        "max_lag": 0,
        "version": 0,
        "num_updates": 10,
        "groups_per_update": 8,
        "num_accepted": 0,
        "num_running": 0,
    }
    return num_admissible(**{**numbers, **changes})


def test_lag_0_admits_exactly_the_groups_of_the_next_update():
    assert admissible() == 8
    assert admissible(num_running=5) == 3
    assert admissible(num_accepted=8) == 0
    assert admissible(version=1, num_accepted=8) == 8


def test_lag_2_admits_three_batches_ahead():
    # (2 + 0 + 1) * 8 - 4 - 6 = 14
    assert admissible(max_lag=2, num_accepted=4, num_running=6) == 14


def test_nothing_is_admitted_that_no_update_would_train():
    # Version 9 of 10: one batch is left, though max_lag would allow three.
    assert admissible(max_lag=2, version=9, num_accepted=72) == 8
