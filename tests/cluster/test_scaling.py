"""When the number of actors changes: worked by hand, and in a run of arithmetic with its own clock."""

import pytest

from cluster.scaling import Scaler, ScalingConfig, Span, verdict

CONFIG = ScalingConfig(span_s=10.0, num_spans=2)


def span(wait_s=0.0, learn_s=0.0, *, busy_in_wait=0, busy_in_learn=0):
    made = Span()
    made.add(wait_s, True, busy_in_wait)
    made.add(learn_s, False, busy_in_learn)
    return made


@pytest.mark.parametrize(
    ("seen", "num_actors", "change"),
    [
        # 3 of 10 s waited, above a quarter, and both were busy.
        (span(3.0, 7.0, busy_in_wait=2), 2, 1),
        # A quarter of 8 is 2.
        (span(3.0, 7.0, busy_in_wait=8), 8, 2),
        # The learner waits, but for the last of the tasks: 5 of 8 were busy, less than 6.
        (span(3.0, 7.0, busy_in_wait=5), 8, 0),
        # 2 of 10 s are between the bounds.
        (span(2.0, 8.0, busy_in_wait=2), 2, 0),
        # It never waits; 2 of 4 busy is no more than 3/4 of 3.
        (span(0.0, 10.0, busy_in_learn=2), 4, -1),
        # 3 busy ones are more than 3/4 of 3.
        (span(0.0, 10.0, busy_in_learn=3), 4, 0),
        # 0.4 of 10 s, below a twentieth; on average 0.04 · 4 are busy.
        (span(0.4, 9.6, busy_in_wait=4), 4, -1),
        # One actor with something to do cannot be done without: 1 > 3/4 · 0.
        (span(0.0, 10.0, busy_in_learn=1), 1, 0),
    ],
)
def test_the_verdict_on_a_span(seen, num_actors, change):
    """Mutation: any of the four comparisons turned round, or a bound left out."""
    assert verdict(seen, num_actors, CONFIG) == change


class Run:
    """Updates of so many seconds of work for one actor each, then so many of learning. Lag 0."""

    def __init__(self, work_s, learn_s, num_actors, config=CONFIG):
        self.work_s, self.learn_s, self.num_actors = work_s, learn_s, num_actors
        self.scaler = Scaler(config)
        self.now_s = 0.0
        self.seen = [num_actors]

    def update(self):
        for phase, length_s, num_busy in (
            ("wait", self.work_s / self.num_actors, self.num_actors),
            ("learn", self.learn_s, 0),
            ("publish", 1.0, 0),
        ):
            change = self.scaler.look(self.now_s, phase, self.num_actors, num_busy)
            if change:
                self.num_actors = max(1, self.num_actors + change)
                self.scaler.forget()
                self.seen.append(self.num_actors)
            self.now_s += length_s


def test_a_slow_rollout_side_grows_until_the_learner_waits_for_a_quarter_and_stays():
    # 24 s of work and 12 s of learning. 24 / n <= (24 / n + 12) / 4 from n = 6 on.
    run = Run(24.0, 12.0, num_actors=1)
    for _ in range(100):
        run.update()
    assert run.seen == [1, 2, 3, 4, 5, 6]


def test_a_fast_rollout_side_shrinks_while_the_learner_hardly_waits_and_stays():
    # 1 s of work: at n = 2 the learner waits for 0.5 of 12.5 s, 4 %; alone 1 of 13 s, 8 %.
    run = Run(1.0, 12.0, num_actors=4)
    for _ in range(100):
        run.update()
    assert run.seen == [4, 3, 2, 1]


def test_spans_cover_whole_updates_however_long_one_is():
    """Half of the time is learning: 100 s of it alone would say that nobody waits.

    Mutation: end a span by the clock alone, or begin the first one before an update begins.
    """
    run = Run(200.0, 100.0, num_actors=2)
    for _ in range(3):
        # Not even two spans that begin with an update's learning.
        assert run.seen == [2]
        run.update()
    # Two of them: 100 of 200 s were waited.
    assert run.seen == [2, 3]


def test_one_span_decides_nothing_and_spans_that_disagree_neither():
    """Mutation: count verdicts without asking for their sign."""
    scaler = Scaler(CONFIG)
    now_s = 0.0
    for busy_share in (1, 0, 1, 0, 1):
        for phase, length_s in (("wait", 10.0 * busy_share), ("learn", 10.0)):
            assert scaler.look(now_s, phase, 4, 4 * busy_share) == 0
            now_s += length_s


def test_what_is_neither_waiting_nor_learning_counts_for_nothing():
    """3 of 10 s waited, whatever a measurement of 90 s does. Mutation: count every phase."""
    scaler = Scaler(CONFIG)
    now_s, said = 0.0, []
    for phase, length_s, num_busy in [("wait", 3.0, 4), ("learn", 7.0, 0), ("eval", 90.0, 4)] * 4:
        said.append(scaler.look(now_s, phase, 4, num_busy))
        now_s += length_s
    # Spans begin with learning: the second one ends where the third update begins.
    assert said == [0] * 7 + [1] + [0] * 2 + [1, 0]


def test_bounds_between_which_actors_would_come_and_go_are_refused():
    with pytest.raises(ValueError, match="come and go"):
        ScalingConfig(grow_above=0.1, shrink_below=0.06)
