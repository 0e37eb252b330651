"""The pool of rollout actors on real Ray: who is given work, who is replaced, and what is said of it."""

import os
import signal
import time

import pytest

from cluster.ports import Delivery, GroupsLost, Lost, StalledError

ray = pytest.importorskip("ray")
fakes = pytest.importorskip("tests.cluster.fakes_ray")
made = pytest.importorskip("tests.cluster.fakes_pool")
pool = pytest.importorskip("cluster.ray_rollouts")
learning = pytest.importorskip("cluster.ray_learner")

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture
def open_pool():
    """Opens pools of actors with the given manners; all later ones behave."""
    pools = made.Pools()
    yield lambda *manners, **limits: (pools.open(*manners, **limits), pools.events)
    pools.close()


def test_nobody_is_given_work_before_it_confirmed_the_weights(open_pool):
    rollouts, _ = open_pool()
    assert rollouts.num_free == 0
    rollouts.load(made.published(0))
    assert rollouts.num_free == 2 * pool.NUM_QUEUED


def test_a_version_is_current_only_after_the_slowest_actor_confirmed_it(open_pool):
    """S8: when `load` returns, no actor holds an older version. Mutation: stop at the first confirmation."""
    rollouts, events = open_pool({"load": "nap"}, {})
    for version in (0, 1):
        rollouts.load(made.published(version))
        assert rollouts.num_free == 2 * pool.NUM_QUEUED, "somebody has not confirmed yet"
        assert made.held_versions(rollouts) == [version, version]
    assert events == []


def test_actors_that_compute_in_different_ways_are_told_of_once(open_pool):
    """One has no compiler, say. Mutations: told at every answer; never asked."""
    rollouts, events = open_pool({"arithmetic": "kernels"}, {"arithmetic": "torch"}, num_actors=3)
    rollouts.load(made.published(0))
    while len(rollouts._members.by_arithmetic()) < 3:
        rollouts.collect()
    told = [event["actors_by_arithmetic"] for event in events if event["event"] == "actors_differ"]
    assert told[-1] == {"by hand": [2], "kernels": [0], "torch": [1]}
    assert len(told) == 2
    assert rollouts.vitals()["rollout/actors_differing"] == 2.0


def test_weights_are_taken_between_tasks_and_the_stamps_stay_those_of_dispatch(open_pool):
    """S8e: tasks that were given out at version 0 are finished with it, and only then version 1 is loaded."""
    rollouts, _ = open_pool({"run": "nap"}, num_actors=1)
    rollouts.load(made.published(0))
    for number in (1, 2):
        rollouts.submit(made.task(number, version=0))
    rollouts.load(made.published(1))
    arrived = made.collect(rollouts, 2)
    assert [(a.report.task.id, a.report.task.policy_version) for a in arrived] == [(1, 0), (2, 0)]
    assert made.held_versions(rollouts) == [1]


def test_in_flight_weights_are_taken_and_confirmed_in_the_middle_of_a_task(open_pool):
    """The first task ends only with version 1. Mutations: an actor with one thread; tasks side by side."""
    rollouts, events = open_pool(num_actors=1, make_actor=made.overlapped_actor)
    rollouts.load(made.published_object(0))
    for number in (1, 2):
        rollouts.submit(made.task(number, version=0))
    rollouts.load(made.published_object(1))
    arrived = made.collect(rollouts, 2)
    assert sorted(a.report.task.id for a in arrived) == [1, 2]
    assert sorted((a.report.generate_s, a.report.score_s) for a in arrived) == [(0, 1), (1, 1)]
    assert events == []


def test_an_actor_that_holds_other_weights_is_replaced(open_pool):
    """S8a: the digest that an actor echoes is compared. Mutation: trust every answer."""
    rollouts, events = open_pool({}, {"load": "lie"})
    rollouts.load(made.published(0))
    assert [(e["event"], e["actor"]) for e in events] == [("actor_replaced", 1)]
    assert "another digest instead of digest 0" in events[0]["reason"]
    assert made.held_versions(rollouts) == [0, 0]
    assert "actor 1 " not in rollouts.describe()


def test_the_tasks_of_a_killed_actor_are_told_as_lost_and_the_others_are_not_touched(open_pool):
    rollouts, events = open_pool({"run": "nap"}, {"run": "nap"})
    rollouts.load(made.published(0))
    victim = made.pid_of(next(rollouts.actors()))
    for number in range(4):
        rollouts.submit(made.task(number))
    os.kill(victim, signal.SIGKILL)
    arrived = made.collect(rollouts, 4)
    lost = sorted(a.task.id for a in arrived if isinstance(a, Lost))
    done = sorted(a.report.task.id for a in arrived if isinstance(a, Delivery))
    # Tasks go to the actor with the fewest, so 0 and 2 are the first actor's.
    assert (lost, done) == ([0, 2], [1, 3])
    assert [e["actor"] for e in events] == [0]


def test_the_replacement_has_the_newest_weights_before_it_gets_work(open_pool):
    rollouts, _ = open_pool(num_actors=1)
    rollouts.load(made.published(0))
    rollouts.load(made.published(1))
    rollouts.submit(made.task(0, version=1))
    os.kill(made.pid_of(next(rollouts.actors())), signal.SIGKILL)
    rollouts.submit(made.task(1, version=1))
    deadline_s = time.monotonic() + 30.0
    while rollouts.num_free < pool.NUM_QUEUED:
        rollouts.collect()
        assert time.monotonic() < deadline_s
    rollouts.submit(made.task(2, version=1))
    (arrival,) = [a for a in made.collect(rollouts, 1) if isinstance(a, Delivery)]
    assert arrival.report.task.id == 2
    assert made.held_versions(rollouts) == [1]


def test_actors_that_always_die_end_the_run_by_name(open_pool):
    manners = [{"run": "die"}] * 3
    rollouts, events = open_pool(*manners, num_actors=1, max_restarts=2)
    rollouts.load(made.published(0))

    def work_on():
        for number in range(99):
            while rollouts.num_free == 0:
                rollouts.collect()
            rollouts.submit(made.task(number))

    with pytest.raises(StalledError, match=r"actor 2 .*cluster\.max_restarts"):
        work_on()
    assert [(e["actor"], e["restarts_left"]) for e in events] == [(0, 2), (1, 1), (2, 0)]


def test_actors_that_die_before_they_hold_weights_end_the_run_too(open_pool):
    rollouts, _ = open_pool(*[{"load": "die"}] * 2, num_actors=1, max_restarts=1)
    with pytest.raises(StalledError, match="actor 1 "):
        rollouts.load(made.published(0))


@pytest.mark.parametrize("what", ["load", "run"])
def test_a_bug_in_the_code_of_an_actor_ends_the_run_at_once_with_its_own_words(open_pool, what):
    rollouts, events = open_pool({what: "raise"}, num_actors=1)

    def work():
        rollouts.load(made.published(0))
        rollouts.submit(made.task(0))
        made.collect(rollouts, 1)

    with pytest.raises(ZeroDivisionError, match="a bug in the actor"):
        work()
    assert events == []


def test_an_actor_that_holds_a_task_for_too_long_is_replaced_and_its_late_answer_is_not_counted(open_pool):
    rollouts, events = open_pool({"run": "nap"}, num_actors=1, task_deadline_s=0.1)
    rollouts.load(made.published(0))
    rollouts.submit(made.task(0))
    (arrival,) = made.collect(rollouts, 1)
    assert isinstance(arrival, Lost)
    assert "held a task for more than" in events[0]["reason"]
    rollouts.load(made.published(0))
    deadline_s = time.monotonic() + 1.5
    while time.monotonic() < deadline_s:
        assert rollouts.collect() == []


@pytest.fixture(scope="module")
def taker(ray_cluster):
    return fakes.TakingActor.options(num_cpus=0).remote()


def test_groups_that_die_with_their_actor_on_the_way_to_the_learner_are_told_as_lost(open_pool, taker):
    rollouts, _ = open_pool(num_actors=1)
    rollouts.load(made.published(0))
    rollouts.submit(made.task(7))
    (delivery,) = made.collect(rollouts, 1)
    os.kill(made.pid_of(next(rollouts.actors())), signal.SIGKILL)
    time.sleep(1.0)
    with pytest.raises(GroupsLost):
        learning.RayLearner(taker, 30.0).accept(delivery, frozenset()).result()


def test_a_bug_in_the_learner_keeps_its_own_type(taker):
    with pytest.raises(ZeroDivisionError, match="a bug in the learner"):
        learning.RayLearner(taker, 30.0).update(0).result()


def test_a_learner_that_does_not_answer_is_named(ray_cluster):
    stuck = fakes.TakingActor.options(num_cpus=0).remote()
    with pytest.raises(StalledError, match="the learner did not warm up within"):
        learning.RayLearner(stuck, 0.5).warm_up(lambda: False).result()
    ray.kill(stuck)
