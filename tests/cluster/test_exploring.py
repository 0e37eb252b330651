"""The dispatcher writes into each task how it is drawn at its version; evaluation never explores."""

import math

import pytest

from antiphon.schedules import ScheduleConfig
from cluster.evaluation import EvaluationConfig, Evaluator
from rollout.entropy import EntropyConfig
from rollout.exploration import ExplorationConfig
from rollout.types import Sampling
from tests.cluster.test_loop import make_loop
from tests.fakes import SAMPLING, FakeRollouts, make_prompts, silent


def drawn_with(exploration, **changes):
    """(version, sampling) of every task of a run, in the order in which they were given out."""
    tape, seen = [], {}
    rollouts = FakeRollouts(
        tape,
        play=lambda task, turn: seen.setdefault(task.id, (task.policy_version, task.sampling)) and (0.0, 1.0),
        num_free=99,
    )
    loop = make_loop(tape, rollouts=rollouts, exploration=exploration, num_updates=3, **changes)
    loop.show(0)
    loop.run(silent)
    return list(seen.values()), loop


def test_every_task_is_drawn_by_the_schedules_at_its_own_version():
    exploration = ExplorationConfig(
        epsilon=ScheduleConfig(kind="two_phase", start=0.3, end=0.0, num_updates=2),
        beta=ScheduleConfig(start=0.0, end=4.0, num_updates=2),
    )
    tasks, _ = drawn_with(exploration)
    assert {(version, s.epsilon, s.beta) for version, s in tasks} == {
        (0, 0.3, 0.0),
        (1, 0.3, 2.0),
        (2, 0.0, 4.0),
    }
    assert {s.max_new_tokens for _, s in tasks} == {4}


@pytest.mark.parametrize("max_lag", [0, 1])
def test_the_controlled_temperature_moves_once_per_update(max_lag):
    """The fakes tell entropy 0: it rises by the whole rate each time. Lag 1 gives out nothing at 2."""
    exploration = ExplorationConfig(target_entropy=EntropyConfig(target=1.0, rate=0.1))
    tasks, loop = drawn_with(exploration, max_lag=max_lag)
    temperatures = {version: sampling.temperature for version, sampling in tasks}
    wanted = {0: 1.0, 1: math.exp(0.1), 2: math.exp(0.2)}
    assert temperatures == pytest.approx({v: t for v, t in wanted.items() if v + max_lag < 3})
    assert loop.dispatcher.explorer.sampling(3).temperature == pytest.approx(math.exp(0.3))


def test_the_metrics_of_an_update_tell_what_its_version_was_drawn_with():
    told = []
    tape = []
    exploration = ExplorationConfig(beta=ScheduleConfig(start=1.0, end=3.0, num_updates=2))
    loop = make_loop(tape, exploration=exploration, on_update=lambda v, values: told.append((v, values)))
    loop.show(0)
    loop.run(silent)
    assert [(v, values["rollout/beta"]) for v, values in told] == [(1, 1.0), (2, 2.0)]
    assert all(values["rollout/entropy"] == 0.0 for _, values in told)


def evaluated(settled, **settings):
    return Evaluator(EvaluationConfig(**settings), make_prompts(2), settled, 0, iter(range(9))).sampling


def test_evaluation_draws_as_training_does_once_it_no_longer_explores():
    settled = Sampling(temperature=0.7, top_k=5, top_p=0.9, beta=3.0, epsilon=0.2)
    assert evaluated(settled) == Sampling(temperature=0.7, top_k=5, top_p=0.9, beta=3.0)


def test_evaluation_may_have_its_own_settings_and_0_is_one_of_them():
    settled = Sampling(temperature=0.7, top_k=5, top_p=0.9, beta=3.0)
    own = evaluated(settled, temperature=0.0, top_k=0, top_p=1.0, beta=0.0)
    assert own == Sampling(temperature=0.0)
    assert evaluated(SAMPLING, beta=2.0) == SAMPLING.model_copy(update={"beta": 2.0})
