"""The loop while scores fail: what is dropped, what is kept, when it pauses, and how it ends."""

import random
from collections import Counter

import pytest

from antiphon.errors import UserError
from cluster.checkpoints import Checkpoints
from cluster.evaluation import EvaluationConfig, Evaluator
from cluster.hooks import Hooks
from cluster.journal import Journal
from cluster.loop import Loop
from cluster.pause import ScoringFails
from cluster.ports import Delivery, GroupsLost
from cluster.rule import DispatchRule
from cluster.stop import Interrupted, StopRequest
from rollout.prompts import PromptStream
from tests.fakes import SAMPLING, FakeLearner, FakeRollouts, make_prompts, silent


class Service:
    """What groups score: nothing while it is down. It comes up after so many groups were tried in vain."""

    def __init__(self, num_failures, reason="score_timeout"):
        self.num_failures = num_failures
        self.reason = reason
        self.tried = []

    def __call__(self, task, turn):
        if len(self.tried) < self.num_failures:
            self.tried.append((turn.epoch, turn.index))
            return self.reason
        return (0.0, 1.0)


class Told:
    """What the loop told whoever watches."""

    def __init__(self):
        self.metrics = []
        self.events = []

    @property
    def hooks(self):
        return Hooks(
            on_update=lambda version, values: self.metrics.append(values),
            on_measurement=silent,
            on_event=lambda kind, **facts: self.events.append({"event": kind, **facts}),
        )

    def of(self, kind):
        return [event for event in self.events if event["event"] == kind]


def make_loop(
    play, *, deadline_s=60.0, learner=None, rollouts=None, stop=None, num_eval_samples=2, **changes
):
    """A loop whose groups score what `play` says, its learner, and what it tells."""
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
        "probe_every_s": 0.01,
        "pause_deadline_s": deadline_s,
    }
    told, learner = Told(), learner or FakeLearner([], 4)
    evaluation = EvaluationConfig(prompts_per_task=2, num_samples=num_eval_samples)
    loop = Loop(
        rule=DispatchRule(**{**numbers, **changes}),
        stream=PromptStream(make_prompts(10), seed=0),
        rollouts=rollouts or FakeRollouts([], play=play),
        learner=learner,
        rewards=Journal(),
        make_evaluator=lambda ids: Evaluator(evaluation, make_prompts(3), SAMPLING, 0, ids),
        stop=stop or StopRequest(),
        journal=Journal(),
        hooks=told.hooks,
        stall_deadline_s=60.0,
    )
    return loop, learner, told


def run(loop):
    loop.show(0)
    loop.run(silent)


def test_a_sample_without_a_score_is_left_out_and_its_group_is_trained():
    loop, learner, told = make_loop(
        lambda task, turn: (0.5,) if turn.index == 1 else (0.0, 1.0), needs_whole_groups=False
    )
    run(loop)
    assert sorted(learner.trained) == [(0, index) for index in range(8)]
    assert loop.dispatcher.ledger.dropped == {}
    # 8 groups of 2, one sample of which failed.
    assert loop.journal.num_samples == 15
    assert told.metrics[-1]["reward/failed_error_total"] == 1.0
    (event,) = told.of("left_out")
    assert event["key"] == (0, 1)
    assert [(s["sample"], s["status"], s["message"]) for s in event["samples"]] == [(1, "error", "a fake")]


def test_tasks_say_whether_a_failed_score_costs_the_group():
    for needs_whole_groups in (True, False):
        asked = []
        loop, _, _ = make_loop(
            lambda task, turn, asked=asked: asked.append((turn.epoch, task.needs_whole_groups)) or (0.0, 1.0),
            needs_whole_groups=needs_whole_groups,
        )
        run(loop)
        loop.measure()
        # An evaluation (epoch -1) leaves out samples, whatever the algorithm needs.
        assert set(asked) == {(0, needs_whole_groups), (-1, False)}


def test_an_outage_pauses_the_run_and_costs_no_more_than_was_under_way():
    service = Service(num_failures=8 + 2 + 3)
    loop, learner, told = make_loop(service)
    run(loop)
    # A window of 8 groups fails, the task of 2 that was under way, and three probes; the fourth is scored.
    assert [event["event"] for event in told.events if event["event"] != "dropped"] == ["paused", "resumed"]
    assert "16 of the last 16 samples" in told.of("paused")[0]["cause"]
    assert loop.dispatcher.ledger.dropped == {"score_timeout": 10}
    assert len(learner.trained) == 8
    assert set(service.tried[10:]) <= set(service.tried[:8]), "probes are prompts that failed"
    assert len(set(service.tried[10:])) == 3, "and each time another one"
    assert loop.version == 2


def test_what_was_under_way_when_the_pause_began_is_not_held_against_the_time_after_it():
    loop, _, told = make_loop(Service(num_failures=10), num_updates=4, max_failed_share=0.2)
    run(loop)
    # Of the first window after the pause, the 2 groups that were under way would be 1/4.
    assert loop.dispatcher.ledger.dropped == {"score_timeout": 10}
    assert len(told.of("paused")) == 1


def test_a_probe_is_in_no_ledger_and_is_never_trained():
    service = Service(num_failures=10)
    loop, learner, _ = make_loop(service)
    run(loop)
    ledger = loop.dispatcher.ledger
    ledger.check()
    # 10 dropped and 8 trained; the probe that was scored is none of them.
    assert (ledger.num_dispatched, ledger.num_trained) == (18, 8)
    assert not set(service.tried) & set(learner.trained)
    assert loop.dispatcher.scores.failed == {"timeout": 20}


def test_a_probe_whose_actor_dies_is_followed_by_another_one():
    class Dying(FakeRollouts):
        """The actor of the first probe dies."""

        def submit(self, task):
            super().submit(task)
            if len(task.turns) == 1 and not self.has_died:
                self.lose_next, self.has_died = 1, True

        has_died = False

    rollouts = Dying([], play=Service(num_failures=10))
    loop, learner, told = make_loop(None, rollouts=rollouts)
    run(loop)
    assert rollouts.has_died
    assert [event["event"] for event in told.events if event["event"] != "dropped"] == [
        *["paused", "task_lost", "resumed"],
    ]
    assert loop.dispatcher.ledger.dropped == {"score_timeout": 10}
    assert len(learner.trained) == 8


def test_how_long_an_outage_lasts_changes_nothing_that_is_learned():
    trained = []
    for num_probes in (0, 5):
        loop, learner, _ = make_loop(Service(num_failures=10 + num_probes))
        run(loop)
        trained.append(
            (learner.trained, dict(loop.dispatcher.ledger.dropped), loop.dispatcher.scores.metrics())
        )
    assert trained[0] == trained[1]


def test_an_outage_that_does_not_end_stops_the_run_with_its_cause():
    loop, _, told = make_loop(Service(num_failures=10**9), deadline_s=0.1)
    with pytest.raises(ScoringFails, match=r"could not be scored.*the newest: timeout: a fake; paused for"):
        run(loop)
    assert len(told.of("dropped")) == 10
    assert told.of("resumed") == []
    loop.dispatcher.ledger.check()


def test_without_a_deadline_to_wait_for_the_run_stops_at_once():
    loop, _, told = make_loop(Service(num_failures=10**9), deadline_s=0.0)
    with pytest.raises(ScoringFails, match="could not be scored"):
        run(loop)
    assert told.of("paused") == []


def test_samples_that_can_never_be_scored_are_not_waited_for():
    loop, _, told = make_loop(Service(num_failures=10**9, reason="score_invalid_input"))
    with pytest.raises(ScoringFails, match="invalid_input"):
        run(loop)
    assert told.of("paused") == []


def test_a_service_that_answers_probes_and_fails_under_load_ends_the_run():
    def play(task, turn):
        return (0.0, 1.0) if len(task.turns) == 1 else "score_timeout"

    loop, learner, told = make_loop(play, deadline_s=0.5)
    with pytest.raises(ScoringFails):
        run(loop)
    assert len(told.of("resumed")) >= 1
    assert learner.trained == []


def test_a_good_stretch_forgives_an_earlier_outage():
    spent_s = []
    for num_updates in (1, 3):
        loop, _, _ = make_loop(Service(num_failures=10), num_updates=num_updates)
        run(loop)
        spent_s.append(loop._pause.spent_s)
    # After the outage 4 groups are no window of 8 yet, 12 are.
    assert spent_s[0] > 0.0
    assert spent_s[1] == 0.0


def test_the_first_ctrl_c_ends_a_pause():
    stop = StopRequest()

    class Stopping(Service):
        def __call__(self, task, turn):
            stop.is_requested = len(self.tried) > 9
            return super().__call__(task, turn)

    loop, _, _ = make_loop(Stopping(num_failures=10**9), stop=stop)
    with pytest.raises(Interrupted):
        run(loop)


def test_a_stop_request_ends_the_supervised_phase_though_the_learner_goes_on():
    stop = StopRequest()

    class Busy(FakeLearner):
        """Two looks after it was asked to warm up, the stop is requested; it never answers."""

        num_looks = 0

        def warm_up(self, is_stopping):
            self.is_stopping = is_stopping
            return self

        def is_done(self):
            self.num_looks += 1
            stop.is_requested = self.num_looks == 2
            return False

    learner = Busy([], 4)
    loop, _, _ = make_loop(None, learner=learner, rollouts=FakeRollouts([], num_free=0), stop=stop)
    with pytest.raises(Interrupted):
        loop.warm_up()
    assert learner.num_looks == 2
    assert learner.is_stopping()


def test_a_run_that_stopped_for_an_outage_goes_on_from_where_it_stood(tmp_path):
    whole, learner_of_whole, _ = make_loop(Service(num_failures=10))
    run(whole)
    loop, _, _ = make_loop(Service(num_failures=10**9), deadline_s=0.05)
    with pytest.raises(ScoringFails):
        run(loop)
    path = Checkpoints(tmp_path, 1).save(loop.version, loop.save, {})
    again, learner_again, _ = make_loop(Service(num_failures=0))
    again.load(path)
    again.run(silent)
    assert learner_again.trained == learner_of_whole.trained
    assert again.dispatcher.ledger.dropped == whole.dispatcher.ledger.dropped == {"score_timeout": 10}
    assert again.dispatcher.scores.metrics() == whole.dispatcher.scores.metrics()


def test_an_evaluation_leaves_out_what_is_not_scored_and_says_how_many():
    outcomes = {0: (1.0,), 1: "score_timeout", 2: (0.0, 0.5)}
    loop, _, _ = make_loop(lambda task, turn: outcomes[turn.index], num_eval_samples=2)
    loop.show(0)
    measurement = loop.measure()
    # Of 3 prompts x 2 samples: 1.0, 0.0 and 0.5 were scored; one of the first and both of the second not.
    assert (measurement.value, measurement.n, measurement.num_failed) == (0.5, 3, 3)


def test_an_evaluation_in_an_outage_is_made_again_when_it_is_over():
    service = Service(num_failures=0)
    loop, _, told = make_loop(service)
    loop.show(0)
    loop.measure()
    service.num_failures = 3 + 2
    measurement = loop.measure()
    assert (measurement.n, measurement.num_failed) == (6, 0)
    assert [event["event"] for event in told.events] == ["paused", "resumed"]
    assert loop.dispatcher.ledger.num_dispatched == 0


def test_an_evaluation_that_can_never_be_scored_is_not_repeated():
    service = Service(num_failures=0, reason="score_invalid_input")
    loop, _, told = make_loop(service)
    loop.show(0)
    loop.measure()
    service.num_failures = 10**9
    with pytest.raises(UserError, match="the evaluation has no score"):
        loop.measure()
    assert told.of("paused") == []


def test_an_outage_in_an_evaluation_that_does_not_end_stops_the_run():
    service = Service(num_failures=0)
    loop, _, _ = make_loop(service, deadline_s=0.05)
    loop.show(0)
    loop.measure()
    service.num_failures = 10**9
    with pytest.raises(ScoringFails):
        loop.measure()


def test_a_reward_that_never_scored_anything_is_a_mistake_and_no_outage():
    loop, _, told = make_loop(Service(num_failures=10**9))
    loop.show(0)
    with pytest.raises(UserError, match="the evaluation has no score"):
        loop.measure()
    assert told.of("paused") == []


class LossyLearner(FakeLearner):
    """Some deliveries die with their actor before the learner has them."""

    def __init__(self, tape, groups_per_update, rng):
        super().__init__(tape, groups_per_update)
        self.rng = rng

    def accept(self, delivery: Delivery, keys):
        if self.rng.random() < 0.2:
            return Gone()
        return super().accept(delivery, keys)


class Gone:
    def is_done(self):
        return True

    def result(self):
        raise GroupsLost("died")


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("needs_whole_groups", [True, False])
def test_every_sample_is_counted_once_under_failures_losses_and_restarts(tmp_path, seed, needs_whole_groups):
    rng = random.Random(seed)

    def play(task, turn):
        draw = rng.random()
        if draw < 0.15:
            return "score_error"
        return (0.5,) if draw < 0.4 and not task.needs_whole_groups else (0.0, 1.0)

    learner = LossyLearner([], 4, rng)
    state = None
    for num_updates in (3, 6):
        rollouts = FakeRollouts([], play=play)
        rollouts.lose_next = 1
        loop, _, _ = make_loop(
            play,
            learner=learner,
            rollouts=rollouts,
            needs_whole_groups=needs_whole_groups,
            num_updates=num_updates,
            max_failed_share=1.0,
            max_lag=1,
        )
        if state is not None:
            loop.load(state)
        else:
            loop.show(0)
        loop.run(silent)
        state = tmp_path / str(num_updates)
        state.mkdir()
        loop.save(state)
    ledger, scores = loop.dispatcher.ledger, loop.dispatcher.scores
    ledger.check()
    assert max(Counter(learner.trained).values()) == 1
    settled = ledger.num_trained + len(ledger.accepted) + ledger.dropped.total()
    # Every fake sample that is scored has 3 tokens; those of a dropped group failed.
    assert scores.judged_by_length == {"3-4": 2 * settled}
    left_out = 2 * ledger.num_trained - loop.journal.num_samples
    in_replay = sum(len(g.failed) for g in loop.dispatcher.summaries.values())
    assert scores.failed.total() == 2 * ledger.dropped["score_error"] + left_out + in_replay
