import json

import pytest

from learner.replay import FreshQueue
from tests.learner.fakes_groups import group, random_groups, trajectory


def test_groups_leave_in_the_order_of_dispatch() -> None:
    queue, groups = FreshQueue(), random_groups(3, 2)
    for i in (2, 0, 1):
        queue.add(groups[i])
    assert queue.ready(3)
    assert not queue.ready(4)
    assert queue.take(2) == groups[:2]
    assert queue.take(1) == groups[2:]
    with pytest.raises(ValueError, match="holds 0"):
        queue.take(1)


def test_a_group_is_kept_once() -> None:
    queue, (only,) = FreshQueue(), random_groups(1, 2)
    queue.add(only)
    with pytest.raises(ValueError, match="already holds"):
        queue.add(only)
    assert len(queue) == 1


def test_a_sweep_returns_what_is_older_than_the_lag_allows() -> None:
    queue = FreshQueue()
    groups = [group(i, [trajectory([1], [2])], [0.0], version=version) for i, version in enumerate((3, 5, 4))]
    for g in groups:
        queue.add(g)
    assert queue.sweep(version=5, max_lag=1) == [groups[0]]
    assert queue.take(2) == [groups[1], groups[2]]


def test_state_survives_json_exactly() -> None:
    queue, groups = FreshQueue(), random_groups(3, 2)
    for g in groups:
        queue.add(g)
    other = FreshQueue()
    other.load_state_dict(json.loads(json.dumps(queue.state_dict())))
    assert other.take(3) == groups
