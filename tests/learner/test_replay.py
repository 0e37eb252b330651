"""The door through which fresh groups come, and the replay that has nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest

from learner.replay import ReplayRule
from learner.replays.queue import FreshQueue
from tests.learner.fakes_groups import group, random_groups, trajectory


def make_queue(groups_per_update: int) -> FreshQueue:
    return FreshQueue(FreshQueue.Config(), ReplayRule(groups_per_update=groups_per_update, seed=0))


def test_groups_leave_in_the_order_of_dispatch() -> None:
    queue, groups = make_queue(2), random_groups(4, 2)
    for i in (3, 2, 0):
        queue.add(groups[i])
    assert queue.is_ready
    draw = queue.draw(0)
    assert draw.groups == draw.fresh == (groups[0], groups[2])
    assert (draw.num_fresh, draw.importance, draw.metrics) == (2, None, {})
    assert not queue.is_ready
    with pytest.raises(ValueError, match="holds 1 fresh groups, 2 are due"):
        queue.draw(1)


def test_a_group_is_kept_once() -> None:
    queue, (only,) = make_queue(1), random_groups(1, 2)
    queue.add(only)
    with pytest.raises(ValueError, match="already holds"):
        queue.add(only)


def test_a_sweep_returns_what_is_older_than_the_lag_allows() -> None:
    queue = make_queue(2)
    groups = [group(i, [trajectory([1], [2])], [0.0], version=version) for i, version in enumerate((3, 5, 4))]
    for g in groups:
        queue.add(g)
    assert queue.sweep(version=5, max_lag=1) == [groups[0]]
    assert queue.draw(5).groups == (groups[1], groups[2])


def test_a_group_is_as_old_as_its_oldest_token() -> None:
    """Given out at version 2. One waited until version 4 was there, one went on from 3 with 4 and 5.

    Mutations: its age by dispatch, or by its newest token.
    """
    queue = make_queue(1)
    later = replace(group(0, [trajectory([1], [2])], [0.0], version=4), policy_version=2)
    versions = {"policy_version_min": 3, "policy_version_max": 5, "policy_versions": (-1, 3, 4, 5)}
    older = group(1, [replace(trajectory([1], [2, 2, 2]), **versions)], [0.0], version=2)
    for g in (later, older):
        queue.add(g)
    assert queue.sweep(version=5, max_lag=2) == []
    assert queue.sweep(version=5, max_lag=1) == [older]
    assert queue.draw(5).groups == (later,)


def test_state_survives_a_checkpoint_exactly(tmp_path: Path) -> None:
    queue, groups = make_queue(3), random_groups(3, 2)
    for g in groups:
        queue.add(g)
    queue.save(tmp_path / "replay")
    other = make_queue(3)
    other.load(tmp_path / "replay")
    assert other.draw(0).groups == tuple(groups)


def test_an_empty_queue_is_saved_too(tmp_path: Path) -> None:
    make_queue(1).save(tmp_path / "replay")
    other = make_queue(1)
    other.load(tmp_path / "replay")
    assert not other.is_ready
