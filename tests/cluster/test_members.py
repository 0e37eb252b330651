"""Who leaves a pool that has become too large, and when it may end."""

import pytest

from cluster.members import Member, Members, choose_leavers
from rollout.types import Sampling, Task

TASK = Task(id=0, turns=(), num_samples=1, sampling=Sampling(), policy_version=0, seed=0)


def member(node="a", *, version=3, num_tasks=0):
    made = Member(confirmed_version=version, node=node)
    made.leases = dict.fromkeys(range(num_tasks), TASK)
    return made


@pytest.mark.parametrize(
    ("members", "num_leavers", "leavers"),
    [
        # Who has not come up goes before the others, the newest first.
        ({0: member(), 1: Member(), 2: Member()}, 2, [2, 1]),
        # Node b has fewer actors than a: it becomes empty.
        ({0: member("a"), 1: member("b"), 2: member("a")}, 1, [1]),
        # Two nodes of two: both of one, not one of each.
        ({0: member("a"), 1: member("b"), 2: member("a"), 3: member("b")}, 2, [2, 0]),
        # The driver's node stays although it has fewest.
        ({0: member("home"), 1: member("b"), 2: member("b")}, 1, [2]),
        # Of one node, who has nothing to do.
        ({0: member(), 1: member(num_tasks=2), 2: member(num_tasks=1)}, 1, [0]),
        # Who was set aside with older weights goes before who can work.
        ({0: member(version=2, num_tasks=1), 1: member()}, 1, [0]),
        ({0: member()}, 0, []),
        ({0: member()}, -1, []),
    ],
)
def test_leavers_are_those_that_cost_least_and_whole_nodes(members, num_leavers, leavers):
    """Mutation: leave out any part of the order."""
    assert choose_leavers(members, num_leavers, home="home") == leavers


def test_a_leaver_ends_when_nothing_that_it_made_is_needed_from_it():
    """Two publications after the loop took the last of it; see NUM_LOADS_KEPT. Mutation: one."""
    leaver = member()
    assert not leaver.may_go(num_loads=9), "it was not told to leave"
    leaver.is_leaving = True
    assert leaver.may_go(num_loads=1), "it made nothing"
    leaver.lease(TASK)
    assert not leaver.may_go(num_loads=9)
    leaver.release(TASK.id)
    assert not leaver.may_go(num_loads=9), "nobody has taken it"
    leaver.collect(num_loads=4)
    leaver.collect(num_loads=5)
    assert [leaver.may_go(num_loads=n) for n in (4, 5, 6)] == [False, False, True]


def test_those_that_compute_otherwise_than_most_are_counted():
    """Three by kernels, one by torch, one that has not said it, one that leaves. Mutation: all but the first
    counted, or the leaver."""
    members = Members({i: member() for i in range(6)})
    for i, arithmetic in enumerate(["torch", "kernels", "kernels", "kernels", "", "torch"]):
        members[i].arithmetic = arithmetic
    members[5].is_leaving = True
    assert list(members.by_arithmetic().items()) == [("kernels", [1, 2, 3]), ("torch", [0])]
    assert members.vitals({})["rollout/actors_differing"] == 1.0
    assert Members().vitals({})["rollout/actors_differing"] == 0.0
