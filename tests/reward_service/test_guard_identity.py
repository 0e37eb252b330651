"""What makes two samples the same to a component."""

import datetime
import importlib
from collections import UserDict
from pathlib import Path
from typing import Any

import pytest

from reward_service.building import build_reward
from reward_service.guards.identity import CONTENT, Identity, identity_of, together
from reward_service.types import Sample
from tests.reward_service.fakes_guards import sample

X = Identity(name="x")


def key(s: Sample, identity: Identity = X) -> str:
    return identity.keys_of([s])[s.id]


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "q"},
        {"completion": "2"},
        {"reference": "r"},
        {"reference": ""},
        {"metadata": {"a": 1}},
        {"num_tokens": 1},
        {"is_truncated": True},
        {"repeat": 1},
    ],
)
def test_what_a_component_sees_makes_another_sample(other: dict[str, Any]) -> None:
    assert key(sample("1")) != key(Sample(**{"id": "1", "prompt": "p", "completion": "1", **other}))


@pytest.mark.parametrize("other", [{"id": "b"}, {"group": "0/17"}, {"policy_version": 3}])
def test_where_a_sample_comes_from_does_not(other: dict[str, Any]) -> None:
    assert key(sample("1")) == key(Sample(**{"id": "1", "prompt": "p", "completion": "1", **other}))


@pytest.mark.parametrize("other", [{"name": "y"}, {"version": 2}, {"options": {"a": 1}}, {"source": "s"}])
def test_another_component_has_other_keys(other: dict[str, Any]) -> None:
    assert key(sample("1")) != key(sample("1"), Identity(**{"name": "x", **other}))


def test_texts_do_not_run_into_each_other() -> None:
    left = Sample(id="s", prompt="ab", completion="c")
    right = Sample(id="s", prompt="a", completion="bc")
    assert key(left) != key(right)


def test_the_order_and_the_kind_of_a_mapping_do_not_matter() -> None:
    left = sample("1", metadata={"a": 1, "b": {"c": 2, "d": 3}})
    right = sample("1", metadata=UserDict({"b": {"d": 3, "c": 2}, "a": 1}))
    assert key(left) == key(right)


def test_a_component_that_sees_less_finds_more() -> None:
    blind = Identity(name="x", sees=("completion",))
    assert key(sample("1", prompt="p"), blind) == key(sample("1", prompt="q"), blind)
    assert key(sample("1"), blind) != key(sample("2"), blind)


def test_half_a_character_has_a_key() -> None:
    assert len(key(sample("\ud83d"))) == 64


def test_metadata_that_are_no_json_are_never_recognised() -> None:
    odd = sample("1", metadata={"when": datetime.date(2026, 1, 1)})
    assert key(odd) != key(odd)
    nested: list[Any] = []
    nested.append(nested)
    assert key(sample("1", metadata={"n": nested})) != key(sample("1"))


def test_compared_samples_are_the_same_only_in_the_same_company() -> None:
    comparing = Identity(name="x", is_comparative=True)

    def keys(*completions: str, group: str = "g") -> list[str]:
        samples = [sample(c, id=str(i), group=group) for i, c in enumerate(completions)]
        found = comparing.keys_of(samples)
        return [found[s.id] for s in samples]

    assert keys("a", "b") == keys("b", "a")[::-1] == keys("a", "b", group="h")
    assert keys("a", "b")[0] != keys("a", "c")[0]
    assert keys("a")[0] != keys("a", "a")[0]
    assert len(set(keys("a", "a"))) == 2


def test_samples_without_a_group_are_not_compared() -> None:
    comparing = Identity(name="x", is_comparative=True)
    a, b = sample("1", id="a"), sample("2", id="b")
    assert comparing.keys_of([a, b])["a"] == comparing.keys_of([a])["a"]
    assert comparing.companions([a], [a, b]) == [a]


def test_repeats_of_a_group_are_compared_apart() -> None:
    comparing = Identity(name="x", is_comparative=True)
    samples = [sample(c, id=f"{c}{r}", group="g", repeat=r) for r in (0, 1) for c in "ab"]
    assert [[s.id for s in unit] for unit in comparing.units(samples)] == [["a0", "b0"], ["a1", "b1"]]
    assert [s.id for s in comparing.companions([samples[3]], samples)] == ["a1", "b1"]


def test_an_identity_holds_the_defaults_of_its_component() -> None:
    bare = identity_of(build_reward("exact_match", {}, "w"), "exact_match")
    spelt = identity_of(build_reward("exact_match", {"strip": True}, "w"), "exact_match")
    other = identity_of(build_reward("exact_match", {"strip": False}, "w"), "exact_match")
    assert bare == spelt != other
    assert (bare.name, bare.version, bare.source, bare.sees) == ("exact_match", 1, "", CONTENT)


def test_code_from_outside_is_another_component_when_its_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "my_changing_reward.py"
    name = "my_changing_reward:polite"
    file.write_text("def polite(completion): return 1.0\n")
    importlib.invalidate_caches()
    before = identity_of(build_reward(name, {}, "w"), name)
    assert before == identity_of(build_reward(name, {}, "w"), name)
    file.write_text("def polite(completion): return 2.0\n")
    assert identity_of(build_reward(name, {}, "w"), name) != before


def by_id(completion: str, id: str) -> float:
    return float(id)


def test_a_function_that_asks_for_the_id_gets_a_score_for_each() -> None:
    name = f"{__name__}:by_id"
    identity = identity_of(build_reward(name, {}, "w"), name)
    assert key(sample("1", id="1"), identity) != key(sample("1", id="2"), identity)
    assert identity.sees == (*CONTENT, "id")


def test_code_that_is_not_python_has_no_source() -> None:
    assert identity_of(build_reward("exact_match", {}, "w"), "math:sqrt").source == ""


def test_a_bundle_is_another_one_when_a_part_its_label_or_their_order_is() -> None:
    a, b = Identity(name="a", sees=("completion",)), Identity(name="b", sees=("prompt",))
    both = together({"one": a, "two": b})
    assert both == together({"one": a, "two": b})
    assert both.sees == ("completion", "prompt")
    others = [
        together({"two": b, "one": a}),
        together({"one": a, "zwei": b}),
        together({"one": a, "two": Identity(name="b", version=2, sees=("prompt",))}),
        together({"one": a, "two": Identity(name="b", options={"o": 1}, sees=("prompt",))}),
        together({"one": a}),
    ]
    assert len({key(sample("1"), i) for i in [both, *others]}) == 6
