"""Text components in the child processes that they are meant for: what never ends costs its own sample."""

import time
from collections.abc import Iterator

import pytest

from reward_service.components.json_schema import JsonSchema
from reward_service.components.maths import Maths
from reward_service.components.ter import Ter
from reward_service.isolation.config import IsolationConfig
from reward_service.isolation.pool import Pool
from reward_service.reward import Reward
from reward_service.types import Score, Status
from tests.reward_service.fakes_rewards import sample

# Exponential in the number of a before something else.
TRAP = {"type": "string", "pattern": "^(a+)+$"}


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    components = {
        "maths": ("maths", {"timeout_s": 1}),
        "form": ("json_schema", {"rules": TRAP}),
        "ter": ("ter", {}),
    }
    pool = Pool(components, IsolationConfig(deadline_s=3.0))
    pool.wait_until_started(time.monotonic() + 60.0)
    yield pool
    pool.close()


def scores(pool: Pool, label: str, *completions: str) -> list[Score]:
    samples = [sample(c, id=str(i), reference="42") for i, c in enumerate(completions)]
    return pool.score(label, samples, time.monotonic() + 60.0)


def test_the_library_s_own_clock_works_in_a_child(pool: Pool) -> None:
    """Long before the deadline of 3 s: the worker itself lives on."""
    before = pool.stats()
    first, tower, last = scores(pool, "maths", "41", "$10^{10^{10}}$", "\\boxed{42}")
    assert (first.value, last.value) == (0.0, 1.0)
    assert tower.status is Status.TIMEOUT
    assert "math-verify gave up after 1 s" in tower.message
    assert pool.stats()["maths/kills_total"] == before["maths/kills_total"]


def test_a_pattern_in_a_schema_that_never_ends_is_killed_and_its_neighbours_are_not(pool: Pool) -> None:
    right, trapped, wrong = scores(pool, "form", '"aaa"', f'"{"a" * 60}!"', '"b"')
    assert (right.value, wrong.value) == (1.0, 0.0)
    assert trapped.status is Status.TIMEOUT
    assert pool.stats()["form/kills_total"] == 1
    assert scores(pool, "form", '"aaa"')[0].value == 1.0


def test_scores_are_those_of_the_same_process(pool: Pool) -> None:
    # "42" stands, one word is too many: E = 1 for a reference of one word.
    assert [s.value for s in scores(pool, "ter", "42", "42 7", "7")] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("component", [JsonSchema, Maths, Ter])
def test_what_a_completion_can_make_slow_is_isolated(component: type[Reward]) -> None:
    assert component.placement == "isolated"
