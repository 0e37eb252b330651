"""Replays that keep groups: what a batch is made of, what is forgotten, and what survives a restart."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from learner.logged import Logged
from learner.replay import Draw, ReplayRule
from learner.replays.memory import Memory
from learner.replays.prioritized import Prioritized
from learner.replays.uniform import Uniform
from tests.learner.fakes_groups import group, random_groups, trajectory
from tests.learner.fakes_stores import LIMITS, number, numbered, small_run

KINDS = [Uniform, Prioritized]


def make(
    kind: type[Memory] = Uniform, groups_per_update: int = 6, places: tuple[str, ...] = (), **options: Any
) -> Memory:
    config = kind.Config(**{"num_fresh": 2, **options})
    logged = Logged(places, LIMITS) if places else None
    return kind(config, ReplayRule(groups_per_update=groups_per_update, seed=0), logged)


def play(memory: Memory, num_updates: int, start: int = 0) -> list[Draw]:
    """Updates with as many fresh groups as are due, numbered on; a group surprises by its number."""
    draws = []
    for version in range(start, start + num_updates):
        for g in numbered(version * memory.num_fresh, memory.num_fresh):
            memory.add(g)
        assert memory.is_ready
        draws.append(memory.draw(version))
        memory.learn(draws[-1], [float(number(g)) for g in draws[-1].groups])
    return draws


def numbers(draw: Draw) -> list[int]:
    return [number(g) for g in draw.groups]


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_groups_are_trained_on_at_once_and_drawn_again_later(kind: type[Memory]) -> None:
    draws = play(make(kind), 4)
    assert [[number(g) for g in draw.fresh] for draw in draws] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    # What there is besides: nothing, 2 groups, 4 of 4, 4 of 6.
    assert [len(draw.groups) for draw in draws] == [2, 4, 6, 6]
    assert [max(numbers(draw)[2:], default=-1) < number(draw.fresh[0]) for draw in draws] == [True] * 4


def test_uniform_draws_each_group_at_most_once_and_all_alike() -> None:
    memory = make(groups_per_update=12, num_fresh=2)
    for g in numbered(0, 20):
        memory._own.add(g, 0)
    counted: Counter[int] = Counter()
    for version in range(400):
        picks, _ = memory._pick(5, version)
        assert len({pick.key for pick in picks}) == 5
        counted.update(pick.key[1] for pick in picks)
    # 400 · 5 / 20 = 100 each, with a standard deviation of √(400 · ¼ · ¾) ≈ 8.7.
    assert all(abs(n - 100) < 44 for n in counted.values())
    assert len(counted) == 20


def test_what_surprised_is_drawn_more_often_and_weighs_less() -> None:
    memory = make(Prioritized, alpha=1.0, beta=1.0, epsilon=1e-9)
    play(memory, 10)
    counted: Counter[int] = Counter()
    for version in range(10, 1010):
        counted.update(pick.key[1] for pick in memory._pick(4, version)[0])
    # Errors are 0, 1, …, 19, together 190: number n is drawn 4000 · n / 190 times.
    assert all(abs(counted[n] - 4000 * n / 190) < 45 for n in range(20))
    draw = play(memory, 1, start=10)[0]
    # Fresh groups weigh 1, the others in inverse proportion to their error, the least of them 1.
    assert draw.importance is not None
    least = min(numbers(draw)[2:])
    assert draw.importance == pytest.approx((1.0, 1.0, *(least / n for n in numbers(draw)[2:])))


def test_a_schedule_says_how_much_is_taken_back() -> None:
    section = '{"alpha": 1.0, "beta": {"kind": "two_phase", "start": 0.0, "end": 1.0, "num_updates": 8}}'
    config = Prioritized.Config.model_validate_json(section)
    draws = play(make(Prioritized, alpha=config.alpha, beta=config.beta), 9)
    assert {weight for draw in draws[:8] for weight in draw.importance or ()} == {1.0}
    assert min(draws[8].importance or ()) < 1.0


def test_logged_groups_learn_their_priorities_too(tmp_path: Path) -> None:
    memory = make(Prioritized, places=(small_run(tmp_path),), num_fresh=0, epsilon=0.5)
    draw = play(memory, 1)[0]
    assert memory._window is not None
    learned = {g.key: memory._window.pool.chance(g.key).priority for g in draw.groups}  # type: ignore[union-attr]
    assert learned == {g.key: number(g) + 0.5 for g in draw.groups}


def test_a_group_weighs_the_same_in_a_small_pool_and_in_a_large_one(tmp_path: Path) -> None:
    """All priorities are equal: nothing is drawn too often within its pool, and there is nothing to undo."""
    memory = make(Prioritized, places=(small_run(tmp_path, num_files=9),), beta=1.0)
    for version in range(3):
        for g in numbered(2 * version, 2):
            memory.add(g)
        draw = memory.draw(version)
    # 4 own groups and 36 logged ones, 2 draws from each.
    assert [g.epoch < 0 for g in draw.groups] == [False] * 4 + [True] * 2
    assert draw.importance == pytest.approx([1.0] * 6)


def test_without_errors_priorities_stay_as_they_were() -> None:
    memory = make(Prioritized)
    for g in numbered(0, 2):
        memory.add(g)
    memory.learn(memory.draw(0), None)
    assert memory._own.chance((0, 0)).priority == 1.0  # type: ignore[union-attr]


def test_the_oldest_groups_leave_when_there_is_no_room() -> None:
    # A group has 2 tokens: 5 groups fit into 11.
    memory = make(capacity_tokens=11)
    draws = play(memory, 5)
    assert [key[1] for key in memory._own] == [5, 6, 7, 8, 9]
    assert draws[-1].metrics["replay/tokens"] == 10.0
    assert draws[-1].metrics["replay/groups"] == 5.0
    assert draws[-1].metrics["replay/evicted_total"] == 5.0
    # Those that are trained at this update are drawn from what was here before it.
    assert min(numbers(draws[-1])) >= 3


def test_groups_are_forgotten_when_they_are_too_old() -> None:
    draws = play(make(max_age=2, groups_per_update=50), 6)
    # At update 5 those of updates 3 and 4 are 2 and 1 updates old; those of update 2 are 3.
    assert sorted(numbers(draws[5])[2:]) == [6, 7, 8, 9]
    # (2 · 0 + 2 · 1 + 2 · 2) / 6
    assert draws[5].metrics["replay/age_mean"] == pytest.approx(1.0)


def test_a_group_that_is_larger_than_the_room_is_trained_once_and_leaves() -> None:
    memory = make(num_fresh=1, capacity_tokens=3)
    memory.add(group(0, [trajectory([1], [2, 3, 4])], [0.0]))
    draw = memory.draw(0)
    assert len(draw.groups) == 1
    memory.learn(draw, [1.0])
    assert len(memory._own) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_offline_every_group_is_logged(kind: type[Memory], tmp_path: Path) -> None:
    memory = make(kind, places=(small_run(tmp_path),), num_fresh=0)
    draws = play(memory, 40)
    assert all(len(draw.groups) == 6 and draw.num_fresh == 0 for draw in draws)
    assert draws[0].metrics["replay/logged_share"] == 1.0
    assert "replay/age_mean" not in draws[0].metrics
    assert draws[0].metrics["replay/tokens"] == 24.0
    assert set().union(*(numbers(draw) for draw in draws)) >= set(range(1, 12))


def test_logged_and_own_groups_are_mixed_as_the_share_says(tmp_path: Path) -> None:
    memory = make(places=(small_run(tmp_path, num_files=9),), groups_per_update=7, logged_share=0.3)
    draws = play(memory, 30)
    logged = [sum(g.epoch < 0 for g in draw.groups) for draw in draws]
    # At first there is nothing else; of 5 replayed groups, 1.5 are logged on average once there is.
    assert logged[0] == 5
    assert set(logged[5:]) == {1, 2}
    assert sum(logged[10:30]) == 30
    assert all(len(draw.groups) == 7 for draw in draws)


def test_without_a_share_of_its_own_the_run_keeps_nothing(tmp_path: Path) -> None:
    memory = make(places=(small_run(tmp_path),), logged_share=1.0)
    draws = play(memory, 3)
    assert [sum(g.epoch < 0 for g in draw.groups) for draw in draws] == [4, 4, 4]
    assert len(memory._own) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_more_logged_data_than_there_is_room_passes_through(kind: type[Memory], tmp_path: Path) -> None:
    place = small_run(tmp_path, num_files=9)
    memory = make(kind, places=(place,), num_fresh=0, groups_per_update=4, capacity_tokens=20)
    draws = play(memory, 30)
    # 20 tokens are 10 groups; each of the 36 is here for 2.5 updates of a pass of 9.
    assert all(draw.metrics["replay/tokens"] <= 20 for draw in draws)
    assert memory._window is not None
    # 10 + 29 · 4 groups were read.
    assert memory._window.num_passes == 3
    assert len(set().union(*(numbers(draw) for draw in draws))) > 28


def test_logged_data_that_fits_is_read_once(tmp_path: Path) -> None:
    memory = make(places=(small_run(tmp_path),), num_fresh=0, capacity_tokens=1000)
    play(memory, 20)
    assert memory._window is not None
    assert memory._window.num_passes == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_fresh", [0, 2])
@pytest.mark.parametrize("capacity_tokens", [30, 10_000])
@pytest.mark.parametrize("num_before", [0, 1, 5])
def test_saved_and_loaded_equals_never_stopped(
    kind: type[Memory], num_fresh: int, capacity_tokens: int, num_before: int, tmp_path: Path
) -> None:
    place = small_run(tmp_path / "run", num_files=9)

    def new() -> Memory:
        return make(kind, places=(place,), num_fresh=num_fresh, capacity_tokens=capacity_tokens, max_age=4)

    whole, stopped, resumed = new(), new(), new()
    before = play(whole, num_before)
    assert play(stopped, num_before) == before
    stopped.save(tmp_path / "replay")
    resumed.load(tmp_path / "replay")
    assert play(resumed, 8, start=num_before) == play(whole, 8, start=num_before)


def test_fresh_groups_that_wait_are_saved_too(tmp_path: Path) -> None:
    memory, other = make(), make()
    for g in random_groups(3, 2):
        memory.add(g)
    memory.save(tmp_path / "replay")
    other.load(tmp_path / "replay")
    assert other.is_ready
    assert other.draw(0) == memory.draw(0)


def test_another_seed_draws_others() -> None:
    def drawn(seed: int) -> list[Draw]:
        rule = ReplayRule(groups_per_update=6, seed=seed)
        return play(Uniform(Uniform.Config(num_fresh=2), rule), 9)

    assert drawn(0) == drawn(0) != drawn(1)


def test_places_may_be_one_text_with_commas() -> None:
    config = Uniform.Config.model_validate_json('{"trajectories": "runs/a, runs/b"}')
    assert config.stores == ("runs/a", "runs/b")
    assert Uniform.Config.model_validate_json('{"trajectories": ["runs/a,b"]}').stores == ("runs/a,b",)


def test_without_a_number_all_of_a_batch_is_fresh() -> None:
    assert Uniform.Config().num_fresh_of(7) == 7
    assert Uniform.Config(num_fresh=0).num_fresh_of(7) == 0
