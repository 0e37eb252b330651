"""Who keeps the number of actors: the recipe's rule, a person, the bounds, and what the cluster has."""

import io
import itertools
import json

import pytest
from rich.console import Console

from antiphon.errors import UserError
from cluster.crew import Crew, Pool
from cluster.elastic import make_elastic
from cluster.inline import InlineRollouts
from cluster.journal import Journal
from cluster.progress import Progress
from cluster.recipe import parse_recipe
from cluster.run_dir import RunDir
from cluster.scale_request import Requests, ask, parse_request
from tests.system.fakes_runs import run_cli

NO_NUMBERS = (b"0", b"true", b"1.5", b"100001", b'"2"')


class FakePool:
    """Actors that are up at once, unless the cluster is full."""

    def __init__(self, num_actors, num_cpus=99.0):
        self.num_wanted = self.num_serving = num_actors
        self.num_busy = 0
        self.num_cpus = num_cpus
        self.num_placed = 99

    def resize(self, num_actors):
        self.num_wanted = num_actors
        self.num_serving = min(num_actors, self.num_placed)

    def resources(self):
        return {"CPU": self.num_cpus}


def make_recipe(num_actors=2, mode="ray", **rollout):
    return parse_recipe(
        {
            "run": {"num_updates": 1},
            "data": {"name": "sort_digits"},
            "rollout": {
                "num_actors": num_actors,
                "groups_per_update": 8,
                "groups_per_task": 1,
                "max_lag": 0,
                **rollout,
            },
            "reward": {"components": [{"name": "exact_match"}], "num_cpus_per_replica": 0.0},
            "algorithm": {"name": "ppo"},
            "cluster": {
                "mode": mode,
                "cpus_per_actor": 1.0,
                "learner_cpus": 1.0,
                "start_deadline_s": 100.0,
                "scaling": {"span_s": 1.0, "num_spans": 1},
            },
        }
    )


class Bench:
    """A crew, its pool, its folder and a clock."""

    def __init__(self, folder, pool, recipe):
        self.run_dir = RunDir(folder)
        self.run_dir.create(recipe.to_dict())
        self.pool = pool
        self.now_s = 0.0
        self.crew = Crew(recipe, pool, Requests(self.run_dir.scale), self.tell, lambda: self.now_s)

    def tell(self, kind, **facts):
        self.run_dir.append_event(kind, **facts)

    @property
    def told(self):
        lines = self.run_dir.events.read_text().splitlines() if self.run_dir.events.exists() else []
        return [{k: v for k, v in json.loads(line).items() if k not in ("time", "request")} for line in lines]

    def updates(self, num_updates, *, wait_s, learn_s):
        """All actors are busy while the learner waits."""
        for _ in range(num_updates):
            for phase, length_s in (("wait", wait_s), ("learn", learn_s)):
                self.pool.num_busy = self.pool.num_serving if phase == "wait" else 0
                self.crew.look(phase)
                self.now_s += length_s

    def ask(self, num_actors):
        """What `antiphon scale` does, while the driver looks on."""

        def drive(seconds):
            self.now_s += 1.0
            self.crew.look("wait")

        return ask(self.run_dir, num_actors, timeout_s=60.0, sleep=drive)


@pytest.fixture
def bench(tmp_path):
    number = itertools.count()
    return lambda pool, **rollout: Bench(tmp_path / str(next(number)), pool, make_recipe(**rollout))


def test_the_rule_moves_the_number_between_the_bounds_of_the_recipe(bench):
    """Mutation: leave out a bound."""
    b = bench(FakePool(3), num_actors=3, min_actors=2, max_actors=4)
    b.updates(20, wait_s=5.0, learn_s=5.0)
    assert b.pool.num_wanted == 4
    b.updates(20, wait_s=0.1, learn_s=9.9)
    assert b.pool.num_wanted == 2
    assert [(e["before"], e["actors"]) for e in b.told] == [(3, 4), (4, 3), (3, 2)]
    assert b.told[0]["reason"] == "the learner waits for actors"


def test_without_bounds_the_number_stays(bench):
    b = bench(FakePool(2))
    b.updates(20, wait_s=5.0, learn_s=5.0)
    assert (b.pool.num_wanted, b.told) == (2, [])


def test_no_more_actors_than_tasks_in_flight(bench):
    """Lag 0: 8 groups in tasks of 4 keep two actors busy."""
    b = bench(FakePool(2), max_actors=4, groups_per_task=4)
    b.updates(20, wait_s=5.0, learn_s=5.0)
    assert b.pool.num_wanted == 2


def test_no_more_actors_than_the_cluster_has_room_for(bench):
    """4.5 CPUs: one for the learner, 3 for actors."""
    b = bench(FakePool(2, num_cpus=4.5), max_actors=8)
    b.updates(20, wait_s=5.0, learn_s=5.0)
    assert b.pool.num_wanted == 3


def test_actors_that_do_not_come_up_are_given_up_and_the_rest_go_on(bench):
    b = bench(FakePool(2), max_actors=4)
    b.pool.num_placed = 2
    b.updates(3, wait_s=5.0, learn_s=5.0)
    assert (b.pool.num_wanted, b.pool.num_serving) == (3, 2)
    # 100 s without them.
    b.updates(11, wait_s=5.0, learn_s=5.0)
    assert b.told[1] == {"event": "scaled", "before": 3, "actors": 2, "reason": "1 did not come up"}


def test_before_the_first_weights_nobody_is_given_up(bench):
    """A supervised phase of 1000 s. Mutation: count those that hold none as missing."""
    b = bench(FakePool(2), min_actors=1)
    b.pool.num_serving = 0
    for _ in range(10):
        b.crew.look("warm_up")
        b.now_s += 100.0
    assert b.pool.num_wanted == 2


def test_what_a_person_asks_for_holds_until_it_is_given_back(bench):
    b = bench(FakePool(2), min_actors=1, max_actors=4)
    assert b.ask(3)["actors"] == 3
    b.updates(20, wait_s=5.0, learn_s=5.0)
    assert b.pool.num_wanted == 3
    assert b.ask(None)["actors"] == 2
    b.updates(20, wait_s=5.0, learn_s=5.0)
    assert b.pool.num_wanted == 4


def test_a_run_of_fixed_size_can_be_scaled_by_hand(bench):
    b = bench(FakePool(2))
    answer = b.ask(5)
    assert [answer[k] for k in ("event", "before", "actors", "reason")] == ["scaled", 2, 5, "asked for"]
    assert not b.run_dir.scale.exists()


def test_more_than_the_cluster_has_is_refused_with_the_sums(bench):
    b = bench(FakePool(2, num_cpus=4.5))
    with pytest.raises(UserError, match=r"rollout.num_actors 4.* need 5 CPUs, the cluster has 4.5"):
        b.ask(4)
    assert (b.pool.num_wanted, b.told[0]["event"]) == (2, "scale_refused")


def test_what_is_out_of_the_recipe_s_bounds_is_refused(bench):
    b = bench(FakePool(2), min_actors=2, max_actors=4)
    for num_actors in (1, 5):
        with pytest.raises(UserError, match=r"between .*min_actors 2 and .*max_actors 4"):
            b.ask(num_actors)


def test_nobody_answers_for_a_run_that_is_over_and_nothing_is_left_for_the_next_one(bench):
    b = bench(FakePool(2))
    with pytest.raises(UserError, match="no driver"):
        ask(b.run_dir, 3, timeout_s=0.0)
    assert not b.run_dir.scale.exists()
    b.run_dir.scale.write_text('{"id": "a", "num_actors": 3}')
    assert Requests(b.run_dir.scale).take() is None, "a wish of before the attempt counts for nothing"


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{", b"\xff", b'{"id": "a"}', *(b'{"id": "a", "num_actors": %s}' % n for n in NO_NUMBERS)],
)
def test_a_file_that_is_no_wish_is_none(text):
    assert parse_request(text) is None


def test_a_run_in_one_process_has_no_actors(bench, tmp_path):
    b = bench(FakePool(2), mode="inline")
    with pytest.raises(UserError, match="runs in one process"):
        ask(b.run_dir, 3, timeout_s=0.0)
    inline = InlineRollouts(None, num_threads=1, num_queued=2)
    assert not isinstance(inline, Pool)
    elastic = make_elastic(inline, make_recipe(mode="inline"), RunDir(tmp_path), Journal(), print)
    assert (elastic.num_free, elastic.collect()) == (2, [])


@pytest.mark.parametrize("words", [(), ("--actors", 2, "--auto"), ("--actors", 0)])
def test_the_command_line_wants_one_number(tmp_path, words):
    assert run_cli("scale", tmp_path, *words) == 2


@pytest.mark.parametrize("bounds", [{"min_actors": 3}, {"max_actors": 1}])
def test_bounds_that_do_not_hold_the_start_are_refused(bounds):
    with pytest.raises(UserError, match="num_actors 2 is not between"):
        make_recipe(**bounds)


def test_tasks_are_cut_for_as_many_actors_as_there_may_be():
    """Mutation: for as many as there are at the start; two of four would have nothing to do."""
    assert make_recipe(groups_per_task=None).groups_in_task == 4
    assert make_recipe(groups_per_task=None, max_actors=4).groups_in_task == 2


def test_what_the_driver_is_at_is_the_innermost_phase():
    """A checkpoint is saved while the run begins. Mutation: the outermost one."""
    journal = Journal()
    assert journal.phase_now == ""
    with journal.phase("wait"):
        with journal.phase("eval"):
            assert journal.phase_now == "eval"
        assert journal.phase_now == "wait"
    assert journal.phase_now == ""


def test_a_change_is_told_to_who_watches():
    file = io.StringIO()
    with Progress(Console(file=file, width=80), "run", 2) as progress:
        progress.event("scaled", {"before": 2, "actors": 3, "reason": "asked for", "request": "a"})
    assert file.getvalue().splitlines() == ["2 -> 3 rollout actors: asked for"]
