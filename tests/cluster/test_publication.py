"""S8f: a version exists only when everybody has confirmed it. What fails on the way leaves the older one."""

import pytest

from cluster.inline import InlineRollouts, Later
from cluster.ports import Published, StalledError
from tests.cluster.test_loop import make_loop
from tests.fakes import FakeLearner, FakeRollouts, silent


class DyingPublisher(FakeLearner):
    """Its process is gone when version 1 should be packed."""

    def publish(self, version):
        def die():
            raise ConnectionError("the learner died")

        return Later(die) if version == 1 else super().publish(version)


class DeafRollouts(FakeRollouts):
    """Nobody confirms version 1."""

    def load(self, published):
        if published.version == 1:
            raise StalledError("nobody confirmed")
        super().load(published)


def run(loop):
    loop.show(0)
    loop.run(silent)


def test_a_publisher_that_dies_half_way_leaves_every_actor_and_the_run_at_the_older_version():
    """Mutation: count the version before it is published."""
    tape = []
    rollouts = FakeRollouts(tape)
    loop = make_loop(tape, rollouts=rollouts, learner=DyingPublisher(tape, 4))
    with pytest.raises(ConnectionError):
        run(loop)
    assert (loop.version, loop.weights_digest, rollouts.version) == (0, "d0", 0)
    assert tape[-1] == "update from 0"


def test_a_version_that_nobody_confirms_is_not_current():
    """Mutation: remember the digest before the actors confirmed."""
    tape = []
    loop = make_loop(tape, rollouts=DeafRollouts(tape))
    with pytest.raises(StalledError):
        run(loop)
    assert (loop.version, loop.weights_digest) == (0, "d0")


def test_tasks_carry_the_version_that_was_current_when_they_were_given_out():
    """S8e: with lag 1, the batch of update 2 was given out at version 0. Mutation: stamp at completion."""
    tape, stamps = [], []
    rollouts = FakeRollouts(
        tape, play=lambda task, turn: stamps.append(task.policy_version) or (0.0, 1.0), num_free=99
    )
    loop = make_loop(tape, rollouts=rollouts, max_lag=1, num_updates=3)
    run(loop)
    # 2 batches of 4 groups at version 0, the third at version 1; nothing is left for version 2.
    assert stamps == [0] * 8 + [1] * 4


class OtherWeights:
    """A worker that holds something else than it was told to load."""

    def load(self, weights):
        return "another digest"


def test_in_one_process_the_echo_is_compared_too():
    rollouts = InlineRollouts(OtherWeights(), num_threads=1, num_queued=2)
    published = Published(version=0, digest="d0", size_bytes=1, weights=None)
    with pytest.raises(RuntimeError, match="published weights d0, the engine holds another digest"):
        rollouts.load(published)
