"""The loop against fakes: the order of events is read from a tape."""

from dataclasses import replace

import pytest

from antiphon.errors import UserError
from cluster.evaluation import EvaluationConfig, Evaluator
from cluster.hooks import Hooks
from cluster.journal import Journal
from cluster.loop import Loop
from cluster.ports import Lost, StalledError
from cluster.rule import DispatchRule
from cluster.stop import Interrupted, StopRequest
from learner.process import UpdateReport
from rollout.alarms import Alarm, Example
from rollout.prompts import PromptStream
from tests.fakes import SAMPLING, FakeLearner, FakeRollouts, make_prompts, silent


def make_loop(
    tape,
    *,
    rollouts=None,
    learner=None,
    rewards=None,
    stop=None,
    stall_deadline_s=60.0,
    on_event=silent,
    on_update=silent,
    **changes,
):
    numbers = {
        "num_updates": 2,
        "groups_per_update": 4,
        "groups_per_task": 2,
        "num_samples": 2,
        "max_lag": 0,
        "sampling": SAMPLING,
        "seed": 0,
        "is_dropping_constant": False,
        "needs_whole_groups": True,
        "max_failed_share": 0.5,
        "probe_every_s": 0.02,
        "pause_deadline_s": 0.0,
    }
    rule = DispatchRule(**{**numbers, **changes})
    return Loop(
        rule=rule,
        stream=PromptStream(make_prompts(10), seed=0),
        rollouts=rollouts or FakeRollouts(tape),
        learner=learner or FakeLearner(tape, rule.groups_per_update),
        rewards=rewards or Journal(),
        make_evaluator=lambda ids: Evaluator(
            EvaluationConfig(prompts_per_task=2), make_prompts(3), SAMPLING, 0, ids
        ),
        stop=stop or StopRequest(),
        journal=Journal(),
        hooks=Hooks(on_update=on_update, on_measurement=silent, on_event=on_event),
        stall_deadline_s=stall_deadline_s,
    )


def run(loop):
    loop.show(0)
    loop.run(silent)


def test_with_lag_0_each_batch_is_made_by_the_policy_that_it_updates():
    tape = []
    run(make_loop(tape))
    assert tape == [
        *["publish 0", "load 0"],
        *["submit 2 at 0", "submit 2 at 0", "update from 0", "publish 1", "load 1"],
        *["submit 2 at 1", "submit 2 at 1", "update from 1", "publish 2", "load 2"],
    ]


def test_with_lag_1_one_batch_is_given_out_ahead_and_no_more():
    tape = []
    loop = make_loop(tape, rollouts=FakeRollouts(tape, num_free=99), max_lag=1, num_updates=3)
    run(loop)
    # Version 0 may give out (1 + 0 + 1) * 4 groups = 4 tasks of 2.
    first_update = tape.index("update from 0")
    assert tape[:first_update].count("submit 2 at 0") == 4
    assert loop.journal.max_lag_seen == 1
    assert loop.dispatcher.ledger.num_dispatched == 12


def test_no_group_is_trained_twice_and_none_is_missing_when_actors_die():
    tape = []
    rollouts = FakeRollouts(tape)
    rollouts.lose_next = 3
    learner = FakeLearner(tape, 4)
    loop = make_loop(tape, rollouts=rollouts, learner=learner)
    run(loop)
    assert sorted(learner.trained) == [(0, index) for index in range(8)]
    loop.dispatcher.ledger.check()


def test_groups_that_cannot_be_scored_are_dropped_by_reason_and_replaced():
    tape = []
    rollouts = FakeRollouts(tape, play=lambda task, turn: "score_timeout" if turn.index == 1 else (0.0, 1.0))
    learner = FakeLearner(tape, 4)
    loop = make_loop(tape, rollouts=rollouts, learner=learner)
    run(loop)
    assert loop.dispatcher.ledger.dropped == {"score_timeout": 1}
    assert (0, 1) not in learner.trained
    assert len(learner.trained) == 8


def test_the_run_stops_when_most_groups_cannot_be_scored():
    tape = []
    loop = make_loop(tape, rollouts=FakeRollouts(tape, play=lambda task, turn: "score_error"))
    with pytest.raises(UserError, match="could not be scored"):
        run(loop)


def test_constant_groups_are_dropped_and_replaced_when_asked():
    tape = []
    rollouts = FakeRollouts(tape, play=lambda task, turn: (1.0, 1.0) if turn.index == 0 else (0.0, 1.0))
    loop = make_loop(tape, rollouts=rollouts, is_dropping_constant=True)
    run(loop)
    assert loop.dispatcher.ledger.dropped == {"constant": 1}
    assert loop.journal.num_prompts == 8


def test_the_run_stops_when_dropping_constant_groups_leaves_nothing_to_learn_from():
    tape = []
    rollouts = FakeRollouts(tape, play=lambda task, turn: (0.0, 0.0))
    loop = make_loop(tape, rollouts=rollouts, is_dropping_constant=True)
    with pytest.raises(UserError, match="equal rewards"):
        run(loop)


def test_groups_that_are_too_old_at_the_update_are_replaced_before_it():
    tape = []
    learner = FakeLearner(tape, 4)
    learner.num_stale = 1
    loop = make_loop(tape, learner=learner)
    run(loop)
    assert loop.dispatcher.ledger.dropped == {"stale": 1}
    assert len(learner.trained) == 8


def test_a_stop_request_ends_the_run_where_nothing_is_half_done():
    tape, stop = [], StopRequest()
    loop = make_loop(tape, stop=stop)
    loop.show(0)

    def stop_after_first(version):
        stop.is_requested = True

    with pytest.raises(Interrupted):
        loop.run(stop_after_first)
    assert loop.version == 1
    assert tape[-1] == "load 1"


def test_a_rollout_side_that_brings_nothing_back_ends_the_run_by_name():
    class Stuck(FakeRollouts):
        def collect(self):
            return []

    tape = []
    loop = make_loop(tape, rollouts=Stuck(tape), stall_deadline_s=0.05)
    with pytest.raises(StalledError, match="a fake"):
        run(loop)


def test_a_resumed_loop_goes_on_where_the_saved_one_was(tmp_path):
    tape = []
    learner = FakeLearner(tape, 4)
    first = make_loop(tape, learner=learner, num_updates=1)
    run(first)
    first.save(tmp_path)
    second = make_loop(tape, learner=learner, num_updates=2)
    second.load(tmp_path)
    second.run(silent)
    assert second.version == 2
    assert sorted(learner.trained) == [(0, index) for index in range(8)]
    assert second.journal.num_prompts == 8


def test_an_evaluation_measures_every_held_out_prompt_once_and_trains_on_none():
    tape = []
    rollouts = FakeRollouts(tape, play=lambda task, turn: (1.0,) if turn.index == 0 else (0.0,))
    loop = make_loop(tape, rollouts=rollouts)
    loop.show(0)
    measurement = loop.measure()
    # One of three held-out prompts is right.
    assert (measurement.value, measurement.n) == (1 / 3, 3)
    assert loop.dispatcher.ledger.num_dispatched == 0


def test_an_evaluation_survives_the_death_of_its_actor():
    tape = []
    rollouts = FakeRollouts(tape)
    rollouts.lose_next = 1
    loop = make_loop(tape, rollouts=rollouts)
    loop.show(0)
    assert loop.measure().n == 6


def test_an_evaluation_waits_for_the_replacement_of_the_only_actor():
    class Replacing(FakeRollouts):
        """Nobody is free for three looks after a loss."""

        num_looks = 3

        @property
        def num_free(self):
            return super().num_free if self.num_looks in (0, 3) else 0

        def submit(self, task):
            assert self.num_free > 0, "work was given out while nobody was free"
            super().submit(task)

        def collect(self):
            arrived = super().collect()
            if self.num_looks < 3 or any(isinstance(a, Lost) for a in arrived):
                self.num_looks = max(0, self.num_looks - 1)
            return arrived

    tape = []
    rollouts = Replacing(tape)
    rollouts.lose_next = 1
    loop = make_loop(tape, rollouts=rollouts)
    loop.show(0)
    assert loop.measure().n == 6


def test_an_alarm_becomes_an_event_after_the_update_that_raised_it():
    example = Example(prompt="p", completion="c", value=1.0, parts={"exact": 1.0})
    alarm = Alarm(
        **{"name": "duplicates_in_batch", "subject": "", "version": 1, "value": 1.0, "threshold": 0.9},
        message="they are all the same",
        examples=(example,),
    )

    class Watching(FakeLearner):
        def _update(self, version):
            return replace(super()._update(version), alarms=(alarm,) if version == 0 else ())

    tape = []

    def note(kind, **facts):
        tape.append((kind, facts["version"], facts["examples"][0]["completion"]))

    run(make_loop(tape, learner=Watching(tape, 4), on_event=note))
    assert tape.count(("alarm", 1, "c")) == 1
    assert tape.index("load 1") < tape.index(("alarm", 1, "c")) < tape.index("update from 1")


class Counted:
    """Rewards that remember a number."""

    def __init__(self, count):
        self.count = count

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


def test_the_rewards_have_a_place_in_the_checkpoint(tmp_path):
    before = make_loop([], rewards=Counted(3))
    run(before)
    before.save(tmp_path)
    rewards = Counted(0)
    make_loop([], rewards=rewards).load(tmp_path)
    assert rewards.count == 3


class OfflineLearner(FakeLearner):
    """Every batch is four groups of somebody else's."""

    def _update(self, version):
        self.tape.append(f"update from {version}")
        return UpdateReport(num_groups=4, trained=(), stale=(), metrics={"loss": 1.0})


def test_without_fresh_groups_nothing_is_given_out_and_every_update_is_published():
    tape, told = [], []
    loop = make_loop(tape, learner=OfflineLearner(tape, 0), groups_per_update=0, max_lag=1)
    loop._hooks = Hooks(on_update=lambda *args: told.append(args), on_measurement=silent, on_event=silent)
    run(loop)
    assert tape == [
        *["publish 0", "load 0"],
        *["update from 0", "publish 1", "load 1"],
        *["update from 1", "publish 2", "load 2"],
    ]
    assert [version for version, _ in told] == [1, 2]
    values = told[-1][1]
    assert (values["loss"], values["rollout/prompts_total"]) == (1.0, 0)
    assert "reward/mean" not in values
    assert loop.journal.summarize()["reward_last"] is None


def test_a_stop_request_is_honoured_where_nothing_has_to_be_waited_for():
    tape, stop = [], StopRequest()
    loop = make_loop(tape, learner=OfflineLearner(tape, 0), stop=stop, groups_per_update=0)
    loop.show(0)
    assert loop.turn()
    stop.is_requested = True
    with pytest.raises(Interrupted):
        loop.turn()
    assert loop.version == 1
