"""A pool of real Ray actors that grows, shrinks, and goes on without those that do not answer."""

import os
import signal

import pytest

from cluster.ports import Delivery, Lost

ray = pytest.importorskip("ray")
made = pytest.importorskip("tests.cluster.fakes_pool")
fakes = pytest.importorskip("tests.cluster.fakes_ray")
learning = pytest.importorskip("cluster.ray_learner")

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture
def pools():
    opened = made.Pools()
    yield opened
    opened.close()


def wait_for(rollouts, condition):
    arrived = []
    made.wait_for(rollouts, condition, arrived)
    return arrived


def test_a_joiner_has_the_newest_weights_before_it_gets_work(pools):
    """Its actor asserts that no task is newer than its weights. Mutation: count joiners as free."""
    rollouts = pools.open(num_actors=1)
    rollouts.load(made.published(0))
    rollouts.load(made.published(1))
    rollouts.resize(3)
    assert (rollouts.num_serving, rollouts.num_free) == (1, 2)
    wait_for(rollouts, lambda: rollouts.num_serving == 3)
    assert rollouts.num_free == 6
    for number in range(6):
        rollouts.submit(made.task(number, version=1))
    assert rollouts.num_busy == 3
    arrived = made.collect(rollouts, 6)
    assert sorted(a.report.task.id for a in arrived) == list(range(6))
    assert made.held_versions(rollouts) == [1, 1, 1]


def test_a_leaver_ends_what_it_holds_gets_nothing_more_and_no_successor(pools):
    """Mutation: end it at once (its tasks are then lost), or count it as free."""
    rollouts = pools.open({"run": "nap"}, {"run": "nap"})
    rollouts.load(made.published(0))
    for number in range(4):
        rollouts.submit(made.task(number))
    rollouts.resize(1)
    assert (rollouts.num_wanted, rollouts.num_serving, rollouts.num_free) == (1, 1, 0)
    assert "leaving" in rollouts.describe()
    rollouts.load(made.published(1))
    arrived = made.collect(rollouts, 4)
    assert all(isinstance(a, Delivery) for a in arrived)
    assert sorted(a.report.task.id for a in arrived) == [0, 1, 2, 3]
    assert made.held_versions(rollouts) == [1, 0], "it takes no newer weights"
    for version in (2, 3):
        assert pools.events == []
        rollouts.load(made.published(version))
    assert made.held_versions(rollouts) == [3]
    assert [(e["event"], e["reason"]) for e in pools.events] == [("actor_left", "not needed")]


def test_a_leaver_that_brought_nothing_goes_at_once(pools):
    rollouts = pools.open()
    rollouts.load(made.published(0))
    rollouts.resize(1)
    assert [e["event"] for e in pools.events] == ["actor_left"]
    assert len(list(rollouts.actors())) == 1


def test_groups_of_a_leaver_reach_a_learner_that_fetches_them_later(pools):
    """It owns them. The loop took them just after it had asked for version 1; the learner fetches them before
    it packs version 2. Mutation: end a leaver when it has nothing to do, or one publication earlier."""
    rollouts = pools.open(num_actors=2)
    taker = fakes.TakingActor.options(num_cpus=0).remote()
    rollouts.load(made.published(0))
    for number in range(2):
        rollouts.submit(made.task(number))
    deliveries = made.collect(rollouts, 2)
    rollouts.resize(1)
    rollouts.load(made.published(1))
    accept = learning.RayLearner(taker, 30.0).accept
    for delivery in deliveries:
        accept(delivery, frozenset()).result()
    rollouts.load(made.published(2))
    assert len(list(rollouts.actors())) == 1


def test_a_leaver_that_dies_is_lost_with_its_tasks_and_costs_no_restart(pools):
    rollouts = pools.open({"run": "nap"}, {"run": "nap"}, max_restarts=0)
    rollouts.load(made.published(0))
    pids = [made.pid_of(actor) for actor in rollouts.actors()]
    for number in range(4):
        rollouts.submit(made.task(number))
    rollouts.resize(1)
    # Both hold two tasks, on one node: the newer one leaves.
    os.kill(pids[1], signal.SIGKILL)
    arrived = made.collect(rollouts, 4)
    assert sorted(a.task.id for a in arrived if isinstance(a, Lost)) == [1, 3]
    assert [e["event"] for e in pools.events] == ["actor_left"]
    assert rollouts.num_wanted == len(list(rollouts.actors())) == 1


def test_a_publication_goes_on_without_an_actor_that_fell_silent(pools):
    """As on a node that is cut off: nothing dies, nothing answers. Mutation: wait for everybody."""
    rollouts = pools.open(publish_deadline_s=1.0)
    rollouts.load(made.published(0))
    silent = made.pid_of(next(rollouts.actors()))
    os.kill(silent, signal.SIGSTOP)
    rollouts.load(made.published(1))
    assert [(e["actors"], e["version"]) for e in pools.of("actors_set_aside")] == [([0], 1)]
    assert rollouts.num_free == 2, "who has not confirmed is given no work"
    rollouts.submit(made.task(0, version=1))
    made.collect(rollouts, 1)
    rollouts.load(made.published(2))
    os.kill(silent, signal.SIGCONT)
    wait_for(rollouts, lambda: rollouts.num_free == 4)
    assert made.held_versions(rollouts) == [2, 2]
    assert pools.of("actor_replaced") == []


def test_the_only_actor_is_replaced_when_it_does_not_confirm_in_time(pools):
    """Its successor has all the time that it needs."""
    rollouts = pools.open({"load": "nap"}, num_actors=1, max_restarts=1)
    rollouts.load(made.published(0))
    rollouts.load_deadline_s = 0.3
    pools.listen = lambda: setattr(rollouts, "load_deadline_s", 60.0)
    rollouts.load(made.published(1))
    (event,) = pools.events
    assert (event["actor"], "did not confirm the weights" in event["reason"]) == (0, True)
    assert made.held_versions(rollouts) == [1]


def test_an_actor_that_stays_silent_is_replaced_within_the_budget(pools):
    rollouts = pools.open(publish_deadline_s=0.2, max_restarts=1)
    rollouts.load(made.published(0))
    os.kill(made.pid_of(next(rollouts.actors())), signal.SIGSTOP)
    rollouts.load(made.published(1))
    rollouts.load_deadline_s = 1.0
    wait_for(rollouts, lambda: pools.of("actor_replaced"))
    event = pools.of("actor_replaced")[0]
    assert (event["actor"], event["restarts_left"]) == (0, 1)


def test_who_waits_for_a_node_holds_nobody_up_and_costs_nothing(pools):
    """Two actors ask for a node that does not exist. Mutation: charge the budget, or wait for them."""
    rollouts = pools.open({}, "nowhere", "nowhere", num_actors=3, num_needed=1, max_restarts=0)
    rollouts.load(made.published(0))
    rollouts.load(made.published(1))
    assert rollouts.num_serving == 1
    rollouts.load_deadline_s = 0.1
    wait_for(rollouts, lambda: len(pools.of("actor_replaced")) >= 2)
    rollouts.load_deadline_s = 60.0
    assert {1, 2} <= {e["actor"] for e in pools.of("actor_replaced")}
    wait_for(rollouts, lambda: rollouts.num_serving == 3)


def test_those_who_wait_for_a_node_leave_first(pools):
    rollouts = pools.open({}, "nowhere", num_needed=1)
    rollouts.load(made.published(0))
    rollouts.resize(1)
    assert (rollouts.num_serving, rollouts.num_free) == (1, 2)
    assert [e["actor"] for e in pools.of("actor_left")] == [1]
