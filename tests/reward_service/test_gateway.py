"""Fan-out, repeats and failures: what the gateway does between components and fusion."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from reward_service.gateway import Gateway, Line, Verdicts
from reward_service.lines import BUNDLE, build_gateway
from reward_service.types import Sample, Score, Status
from tests.reward_service.fakes_rewards import recipe, sample


class Judge:
    """A guarded component that says what it is told to, and writes down what it was asked."""

    def __init__(self, say: Mapping[str, Score], wait_for: asyncio.Barrier | None = None) -> None:
        self._say, self._barrier = say, wait_for
        self.asked: list[str] = []
        self.state = 0

    async def score(self, samples: Sequence[Sample], deadline: float) -> list[Score]:
        if self._barrier is not None:
            await asyncio.wait_for(self._barrier.wait(), timeout=5.0)
        self.asked += [f"{s.id}/{s.repeat}" for s in samples]
        return [self._say[s.id] for s in samples]

    def stats(self) -> dict[str, float]:
        return {"num_asked": float(len(self.asked))}

    def state_dict(self) -> dict[str, Any]:
        return {"state": self.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state["state"]

    def close(self) -> None: ...


class Notes:
    """A fusion that only remembers what it was given."""

    def __init__(self) -> None:
        self.verdicts: list[Verdicts] = []

    def fuse(self, samples: Sequence[Sample], verdicts: Sequence[Verdicts]) -> list[Score]:
        self.verdicts = list(verdicts)
        return [ok(s.id, 0.0) for s in samples]

    def stats(self) -> dict[str, float]:
        return {"sigma": 0.5}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def ok(id: str, value: float, **parts: float) -> Score:
    return Score(id=id, status=Status.OK, value=value, parts=parts)


def ask(gateway: Gateway, *samples: Sample) -> list[Score]:
    return asyncio.run(gateway.score(samples, time.monotonic() + 10.0))


def test_every_component_is_asked_at_the_same_time_and_fusion_gets_all_by_label() -> None:
    """No one of the three answers before all have been asked. Mutation: ask one after another."""
    all_three = asyncio.Barrier(3)
    numbers = (("x", 1.0), ("y", 2.0), ("z", 3.0))
    judges = {name: Judge({"a": ok("a", v)}, wait_for=all_three) for name, v in numbers}
    notes = Notes()
    gateway = Gateway([Line(name=n, judge=j, labels=(n,)) for n, j in judges.items()], notes)
    ask(gateway, sample(id="a"))
    assert notes.verdicts == [{"x": (ok("a", 1.0),), "y": (ok("a", 2.0),), "z": (ok("a", 3.0),)}]


def test_repeats_are_asked_as_samples_of_their_own_and_come_back_together() -> None:
    judge = Judge({"a": ok("a", 1.0), "a#1": ok("a#1", 2.0), "b": ok("b", 3.0), "b#1": ok("b#1", 4.0)})
    notes = Notes()
    ask(
        Gateway([Line(name="j", judge=judge, labels=("j",), num_repeats=2)], notes),
        sample(id="a"),
        sample(id="b"),
    )
    assert judge.asked == ["a/0", "a#1/1", "b/0", "b#1/1"]
    assert [[s.value for s in v["j"]] for v in notes.verdicts] == [[1.0, 2.0], [3.0, 4.0]]


def test_a_bundle_is_unpacked_into_its_components() -> None:
    notes = Notes()
    judge = Judge({"a": ok("a", 1.0, x=0.25, y=0.5)})
    ask(Gateway([Line(name="cpu", judge=judge, labels=("x", "y"), is_bundle=True)], notes), sample(id="a"))
    assert notes.verdicts == [{"x": (ok("a", 0.25),), "y": (ok("a", 0.5),)}]


def test_the_failure_of_a_bundle_belongs_to_the_component_that_failed() -> None:
    notes = Notes()
    failed = Score(id="a", status=Status.INVALID_INPUT, parts={"x": 0.25}, message="y: needs a reference")
    line = Line(name="cpu", judge=Judge({"a": failed}), labels=("x", "y", "z"), is_bundle=True)
    ask(Gateway([line], notes), sample(id="a"))
    (verdicts,) = notes.verdicts
    assert verdicts["x"] == (ok("a", 0.25),)
    assert [(s.status, s.message) for s in verdicts["y"]] == [(Status.INVALID_INPUT, "needs a reference")]
    assert "z" not in verdicts


def test_no_samples_ask_nobody() -> None:
    judge = Judge({})
    assert ask(Gateway([Line(name="j", judge=judge, labels=("j",))], Notes())) == []
    assert judge.asked == []


def test_two_samples_of_one_id_are_refused_before_anybody_is_asked() -> None:
    judge = Judge({})
    with pytest.raises(ValueError, match="have the id 'a'"):
        ask(Gateway([Line(name="j", judge=judge, labels=("j",))], Notes()), sample(id="a"), sample(id="a"))
    assert judge.asked == []


def test_state_and_stats_go_by_the_names_of_the_lines() -> None:
    judges = {"x": Judge({}), "y": Judge({})}
    gateway = Gateway([Line(name=n, judge=j, labels=(n,)) for n, j in judges.items()], Notes())
    judges["y"].state = 7
    state = gateway.state_dict()
    judges["y"].state = 0
    gateway.load_state_dict(state)
    assert (judges["x"].state, judges["y"].state) == (0, 7)
    assert gateway.stats() == {"x": {"num_asked": 0.0}, "y": {"num_asked": 0.0}, "fusion": {"sigma": 0.5}}


def test_quick_components_are_asked_together_and_the_others_each_by_itself() -> None:
    asked: list[str] = []

    def call_of(label: str):
        async def call(samples: Sequence[Sample], deadline: float) -> list[Score]:
            asked.append(label)
            parts = {"exact_match": 1.0, "length": 0.5} if label == BUNDLE else {}
            return [Score(id=s.id, status=Status.OK, value=1.0, parts=parts) for s in samples]

        return call

    config = recipe(
        {"name": "exact_match"},
        {"name": "regex", "pattern": "a", "weight": 10.0},
        {"name": "length", "max": 3, "weight": 4.0},
    )
    (score,) = ask(build_gateway(config, call_of), sample(id="a"))
    assert sorted(asked) == [BUNDLE, "regex"]
    # 1 * 1 + 10 * 1 + 4 * 0.5.
    assert score.value == 13.0
    assert list(score.parts) == ["exact_match", "regex", "length"]


def test_a_weight_that_is_a_schedule_is_read_at_the_version_of_the_policy() -> None:
    async def call(samples: Sequence[Sample], deadline: float) -> list[Score]:
        return [Score(id=s.id, status=Status.OK, value=1.0, parts={"exact_match": 1.0}) for s in samples]

    fading = {"kind": "linear", "start": 1.0, "end": 0.0, "num_updates": 4}
    gateway = build_gateway(recipe({"name": "exact_match", "weight": fading}), lambda label: call)
    scores = ask(gateway, *(sample(id=str(v), policy_version=v) for v in (0, 1, 4)))
    assert [s.value for s in scores] == [1.0, 0.75, 0.0]
