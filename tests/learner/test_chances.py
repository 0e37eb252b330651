"""Priorities: who is drawn how often, what that weighs, and that a restart changes nothing."""

import random
from collections import Counter

import pytest

from learner.replays.chances import Chances, importance


def filled(alpha: float = 1.0) -> Chances[str]:
    chances: Chances[str] = Chances(alpha, epsilon=0.5)
    for name in "abc":
        chances.add(name)
    return chances


def shares(chances: Chances[str], num: int = 9000) -> dict[str, float]:
    counted = Counter(name for name, _ in chances.draw(num, random.Random(0)))
    return {name: n / num for name, n in sorted(counted.items())}


def test_what_surprised_more_is_drawn_more_often() -> None:
    chances = filled()
    chances.learn({"a": 0.5, "b": -1.5, "c": 5.5})
    # Priorities |δ| + 0.5: 1, 2 and 6 of 9; one draw from each share makes the counts exact but for 1.
    assert shares(chances) == pytest.approx({"a": 1 / 9, "b": 2 / 9, "c": 6 / 9}, abs=2e-4)
    assert dict(chances.draw(99, random.Random(1))) == pytest.approx({"a": 1 / 9, "b": 2 / 9, "c": 6 / 9})


def test_alpha_flattens_the_priorities() -> None:
    chances = filled(alpha=0.5)
    chances.learn({"a": 0.5, "b": 3.5, "c": 8.5})
    # √1, √4 and √9 of 6.
    assert dict(chances.draw(99, random.Random(0))) == pytest.approx({"a": 1 / 6, "b": 2 / 6, "c": 3 / 6})


def test_what_is_new_has_the_highest_priority_there_is() -> None:
    chances = filled()
    chances.learn({"a": 2.5, "b": 0.5, "c": 0.5})
    chances.add("d")
    assert chances.chance("d").priority == chances.chance("a").priority == 3.0
    chances.remove("a")
    chances.remove("d")
    chances.add("e")
    # Of b and c: 0.5 + 0.5.
    assert chances.chance("e").priority == 1.0


def test_what_has_left_is_not_drawn_and_learns_nothing() -> None:
    chances = filled()
    chances.remove("b")
    chances.learn({"b": 100.0, "a": 1.0})
    assert set(shares(chances)) == {"a", "c"}
    assert len(chances) == 2
    with pytest.raises(KeyError):
        chances.remove("b")


def test_nobody_is_drawn_from_nobody() -> None:
    assert Chances[str](1.0, 0.5).draw(3, random.Random(0)) == []


def test_a_name_is_there_once() -> None:
    with pytest.raises(ValueError, match="already"):
        filled().add("a")


def test_a_restored_one_goes_on_with_the_same_draws() -> None:
    """Also after many have come and gone, and for those that come later."""
    rng, chances = random.Random(0), Chances[int](0.6, 0.01)
    for name in range(60):
        chances.add(name)
        chances.learn({rng.randrange(name + 1): rng.random() for _ in range(3)})
        if name > 20 and name % 2:
            chances.remove(name - 20)
    here = [name for name in range(60) if name in dict(chances.draw(5000, random.Random(1)))]
    restored: Chances[int] = Chances(0.6, 0.01)
    restored.restore({name: chances.chance(name) for name in here})
    for other in (chances, restored):
        for name in range(100, 140):
            other.add(name)
        other.learn({100: 3.0})
    assert len(restored) == len(chances)
    assert restored.draw(500, random.Random(2)) == chances.draw(500, random.Random(2))


def test_importance_takes_the_bias_back() -> None:
    # Σ_i P(i) · w_i with β = 1 is N times 1/N: every item counts the same.
    probabilities = [1 / 9, 2 / 9, 6 / 9]
    assert [p * importance(p, 3, 1.0) for p in probabilities] == pytest.approx([1 / 3] * 3)
    assert importance(2 / 9, 3, 0.0) == 1.0
    # (3 · 1/12)^−½ = 2
    assert importance(1 / 12, 3, 0.5) == pytest.approx(2.0)
