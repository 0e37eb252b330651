"""The sum of weight times normalised component, and what becomes of failures."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.errors import UserError
from antiphon.schedules import ScheduleConfig
from reward_service.fusion.calibration import Calibration
from reward_service.fusion.config import EnsembleConfig, FusionConfig, FusionPart
from reward_service.fusion.fusion import Fusion
from reward_service.types import Sample, Score, Status, Usage

RAMP = ScheduleConfig(start=0.0, end=1.0, num_updates=10)


def sample(id: str = "s", **fields: Any) -> Sample:
    return Sample(**{"id": id, "prompt": "p", "completion": "c", **fields})


def ok(*values: float, **fields: Any) -> tuple[Score, ...]:
    return tuple(Score(id="s", status=Status.OK, value=v, **fields) for v in values)


def failed(status: Status, message: str = "broken") -> tuple[Score, ...]:
    return (Score(id="s", status=status, message=message),)


def fusion(*parts: FusionPart, **ensembles: EnsembleConfig) -> Fusion:
    return Fusion(FusionConfig(ensembles=ensembles), parts)


def part(label: str, **fields: Any) -> FusionPart:
    return FusionPart(label=label, **fields)


def judges(*labels: str, **fields: Any) -> list[FusionPart]:
    return [part(label, estimates="quality", **fields) for label in labels]


def test_the_value_is_the_sum_of_weight_times_part() -> None:
    fusing = fusion(part("a", weight=2.0), part("b", weight=-0.5))
    (score,) = fusing.fuse([sample()], [{"a": ok(1.0), "b": ok(0.5)}])
    assert (score.id, score.status, score.value) == ("s", Status.OK, 1.75)
    assert score.parts == {"a": 1.0, "b": 0.5}
    assert fusing.fuse([], []) == []


def test_weights_are_read_at_the_policy_version_of_the_sample() -> None:
    fusing = fusion(part("a", weight=RAMP), part("b"))
    samples = [sample("old", policy_version=2), sample("new", policy_version=7)]
    scores = fusing.fuse(samples, [{"a": ok(10.0), "b": ok(1.0)}] * 2)
    assert [s.value for s in scores] == pytest.approx([3.0, 8.0])
    assert [s.parts["a/weight"] for s in scores] == pytest.approx([0.2, 0.7])
    assert "b/weight" not in scores[0].parts


def test_repeats_of_a_component_are_averaged() -> None:
    (score,) = fusion(part("a")).fuse([sample()], [{"a": ok(1.0, 2.0, 6.0)}])
    assert (score.value, score.parts) == (3.0, {"a": 3.0})


def test_normalised_and_clipped_parts_show_both_numbers() -> None:
    fusing = fusion(part("a", weight=2.0, normalize="per_prompt", clip=(-0.5, 3.0)))
    samples = [sample(str(i), group="g") for i in range(3)]
    scores = fusing.fuse(samples, [{"a": ok(v)} for v in (1.0, 2.0, 3.0)])
    # Standardised -1, 0, 1; clipped -0.5, 0, 1.
    assert [s.value for s in scores] == pytest.approx([-1.0, 0.0, 2.0], abs=1e-5)
    assert scores[0].parts == pytest.approx({"a": 1.0, "a/normalized": -0.5})


def test_prompts_are_compared_within_themselves() -> None:
    fusing = fusion(part("a", normalize="per_prompt"))
    samples = [sample(str(i), group=g) for i, g in enumerate(["x", "y", "x", "y", ""])]
    scores = fusing.fuse(samples, [{"a": ok(v)} for v in (1.0, 10.0, 3.0, 10.0, 50.0)])
    assert [s.value for s in scores] == pytest.approx([-(0.5**0.5), 0.0, 0.5**0.5, 0.0, 0.0], abs=1e-5)


def test_calibration_comes_before_everything_else() -> None:
    curve = Calibration(kind="isotonic", xs=(0.0, 10.0), ys=(0.0, 1.0))
    (score,) = fusion(part("a", calibration=curve)).fuse([sample()], [{"a": ok(2.0, 20.0)}])
    # 0.2 and, beyond the curve, 1.
    assert score.value == pytest.approx(0.6)
    assert score.parts == pytest.approx({"a": 11.0, "a/calibrated": 0.6})


def test_an_ensemble_is_one_term_and_shows_what_was_done() -> None:
    fusing = fusion(
        part("rouge", weight=10.0),
        *judges("x", sigma=3.0),
        *judges("y", sigma=1.0),
        quality=EnsembleConfig(weight=2.0, clip=(0.0, 0.9)),
    )
    (score,) = fusing.fuse([sample()], [{"rouge": ok(0.5), "x": ok(10.0), "y": ok(0.0)}])
    # Weights 1/9 and 1: 0.1 x 10 = 1, clipped 0.9. 10 x 0.5 + 2 x 0.9 = 6.8.
    assert score.value == pytest.approx(6.8)
    assert score.parts == pytest.approx(
        {
            **{"rouge": 0.5, "x": 10.0, "y": 0.0, "x/share": 0.1, "y/share": 0.9},
            **{"quality": 1.0, "quality/sigma": 0.9**0.5, "quality/shrinkage": 1.0, "quality/outliers": 0.0},
            "quality/normalized": 0.9,
        }
    )


def test_what_is_not_known_is_not_shown() -> None:
    fusing = fusion(*judges("x", "y"), quality=EnsembleConfig())
    (score,) = fusing.fuse([sample()], [{"x": ok(1.0), "y": ok(2.0)}])
    assert score.value == pytest.approx(1.5)
    assert "quality/sigma" not in score.parts


def test_the_first_part_that_failed_says_why() -> None:
    fusing = fusion(part("a"), part("b", weight=0.0), part("c"))
    verdict = {"a": ok(1.0), "b": failed(Status.TIMEOUT, "asleep"), "c": failed(Status.UNPARSEABLE)}
    (score,) = fusing.fuse([sample()], [verdict])
    assert (score.status, score.value, score.message) == (Status.TIMEOUT, None, "b: asleep")
    assert score.parts == {"a": 1.0}


def test_a_part_is_ok_while_one_of_its_repeats_is() -> None:
    fusing = fusion(part("a"))
    verdicts = [
        {"a": (*failed(Status.ERROR), *ok(2.0))},
        {"a": (*failed(Status.OVER_BUDGET, "spent"), *failed(Status.ERROR))},
    ]
    scores = fusing.fuse([sample("1"), sample("2")], verdicts)
    assert [(s.status, s.value) for s in scores] == [(Status.OK, 2.0), (Status.OVER_BUDGET, None)]
    assert scores[1].message == "a: spent"


def test_a_part_of_which_nothing_was_heard_is_an_error_unless_another_explains_it() -> None:
    fusing = fusion(part("a"), part("b"))
    silent, explained = fusing.fuse(
        [sample("1"), sample("2")], [{"b": ok(1.0)}, {"b": failed(Status.INVALID_INPUT, "no reference")}]
    )
    assert (silent.status, silent.message) == (Status.ERROR, "a: it gave no score for the sample")
    assert (explained.status, explained.message) == (Status.INVALID_INPUT, "b: no reference")


def test_an_ensemble_needs_all_members_or_as_many_as_it_says() -> None:
    verdict = {"x": ok(1.0), "y": failed(Status.TIMEOUT, "asleep"), "z": ok(3.0)}
    (score,) = fusion(*judges("x", "y", "z"), quality=EnsembleConfig()).fuse([sample()], [verdict])
    assert (score.status, score.message) == (Status.TIMEOUT, "y: asleep")
    modest = fusion(*judges("x", "y", "z"), quality=EnsembleConfig(min_members=2))
    (score,) = modest.fuse([sample()], [verdict])
    assert (score.status, score.value, score.parts["quality"]) == (Status.OK, 2.0, 2.0)
    assert score.parts["y/share"] == 0.0
    (score,) = modest.fuse([sample()], [{**verdict, "z": failed(Status.ERROR, "dead")}])
    assert (score.status, score.message, score.parts) == (Status.TIMEOUT, "y: asleep", {"x": 1.0})


def test_a_member_that_failed_is_no_cause_where_its_ensemble_did_without() -> None:
    fusing = fusion(*judges("x", "y"), part("a"), quality=EnsembleConfig(min_members=1))
    verdict = {"x": failed(Status.ERROR), "y": ok(1.0), "a": failed(Status.TIMEOUT, "asleep")}
    (score,) = fusing.fuse([sample()], [verdict])
    assert (score.status, score.message) == (Status.TIMEOUT, "a: asleep")


def test_a_sum_too_large_for_a_float_is_an_error() -> None:
    (score,) = fusion(part("a", weight=1e300)).fuse([sample()], [{"a": ok(1e300)}])
    assert (score.status, score.value, score.message) == (Status.ERROR, None, "the weighted sum is inf")


def test_scores_too_large_to_be_fused_are_an_error_and_leave_no_trace() -> None:
    fusing = fusion(part("a", normalize="per_prompt"))
    samples = [sample("1", group="g"), sample("2", group="g")]
    scores = fusing.fuse(samples, [{"a": ok(1e308)}, {"a": ok(-1e308)}])
    assert {s.status for s in scores} <= {Status.OK, Status.ERROR}
    again = fusing.fuse(samples, [{"a": ok(1.0)}, {"a": ok(3.0)}])
    assert [s.value for s in again] == pytest.approx([-(0.5**0.5), 0.5**0.5], abs=1e-5)


def test_time_and_cost_of_all_repeats_are_added_up() -> None:
    cost = Usage(num_requests=1, num_tokens=10, money=0.5)
    verdict = {"a": ok(1.0, 2.0, latency_s=2.0, usage=cost), "b": failed(Status.ERROR)}
    (score,) = fusion(part("a"), part("b")).fuse([sample()], [verdict])
    assert score.latency_s == 4.0
    assert score.usage == Usage(num_requests=2, num_tokens=20, money=1.0)


def busy() -> Fusion:
    """Everything that keeps a running estimate."""
    return fusion(
        part("rouge", normalize="running", weight=RAMP),
        part("length", normalize="per_prompt"),
        *judges("x", "y", "z"),
        quality=EnsembleConfig(normalize="running", align="scale", window=64, min_samples=8),
    )


def crowd(seed: int, num_prompts: int = 6) -> tuple[list[Sample], list[dict[str, tuple[Score, ...]]]]:
    random = np.random.default_rng(seed)
    samples = [
        sample(f"{g}/{i}", completion=f"c{i}", group=str(g), policy_version=seed)
        for g in range(num_prompts)
        for i in range(4)
    ]
    labels = ("rouge", "length", "x", "y", "z")
    return samples, [{label: ok(float(random.normal())) for label in labels} for _ in samples]


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(24)))
def test_the_order_of_a_request_has_no_influence(order: list[int]) -> None:
    ordered, shuffled = busy(), busy()
    for seed in (0, 1):
        samples, verdicts = crowd(seed)
        scores = {s.id: s for s in ordered.fuse(samples, verdicts)}
        mixed = shuffled.fuse([samples[i] for i in order], [verdicts[i] for i in order])
        assert [s.id for s in mixed] == [samples[i].id for i in order]
        assert {s.id: s for s in mixed} == scores
    assert ordered.state_dict() == shuffled.state_dict()


def test_a_fusion_that_was_saved_goes_on_as_if_it_had_not_stopped() -> None:
    before, after = busy(), busy()
    for seed in range(4):
        before.fuse(*crowd(seed))
    after.load_state_dict(json.loads(json.dumps(before.state_dict(), allow_nan=False)))
    assert before.fuse(*crowd(9)) == after.fuse(*crowd(9))
    assert before.stats() == after.stats()


def test_the_state_of_another_reward_is_refused() -> None:
    with pytest.raises(ValueError, match="the state is of"):
        busy().load_state_dict(fusion(part("rouge")).state_dict())


def test_what_is_believed_is_reported() -> None:
    fusing = busy()
    fusing.fuse(*crowd(0))
    stats = fusing.stats()
    assert {"rouge/mean", "rouge/std", "x/sigma", "y/factor", "z/shift", "x/is_known"} <= set(stats)
    assert "length/mean" not in stats
    assert all(math.isfinite(value) for value in stats.values())


def test_a_completion_that_was_written_twice_counts_once() -> None:
    once, twice = busy(), busy()
    samples, verdicts = crowd(0)
    alone = {s.id: s for s in once.fuse(samples, verdicts)}
    copies = [replace(s, id=f"{s.id}/again") for s in samples[::3]]
    together = {s.id: s for s in twice.fuse([*samples, *copies], [*verdicts, *verdicts[::3]])}
    for name in ("quality", "quality/sigma", "quality/shrinkage", "x/share"):
        assert {i: together[i].parts[name] for i in alone} == {i: s.parts[name] for i, s in alone.items()}
        assert all(together[c.id].parts[name] == together[c.id[:-6]].parts[name] for c in copies)


def test_the_same_completion_judged_anew_counts_again() -> None:
    fusing = fusion(*judges("x"), quality=EnsembleConfig(min_samples=2, window=8))
    samples = [sample(str(i), group="g") for i in range(4)]
    scores = fusing.fuse(samples, [{"x": ok(v)} for v in (1.0, 1.0, 2.0, 1.0)])
    assert [s.value for s in scores] == [1.0, 1.0, 2.0, 1.0]
    assert len(fusing.state_dict()["quality"]["ensemble"]["seen"]["rows"]) == 2 * 4
    # So does the same answer to another prompt, or in another group.
    others = [sample("5", group="g"), sample("6", group="h"), sample("7", group="g", prompt="q")]
    fusing.fuse(others, [{"x": ok(5.0)}] * 3)
    assert len(fusing.state_dict()["quality"]["ensemble"]["seen"]["rows"]) == (2 + 3) * 4


def test_as_many_verdicts_as_samples_are_wanted() -> None:
    with pytest.raises(ValueError, match="2 samples and 1 verdicts"):
        fusion(part("a")).fuse([sample("1"), sample("2")], [{"a": ok(1.0)}])


@pytest.mark.parametrize(
    ("parts", "ensembles", "message"),
    [
        ([part("a", estimates="qualty")], {"quality": EnsembleConfig()}, "did you mean 'quality'"),
        ([part("a", estimates="quality")], {}, "declare ensembles: {quality: {}}"),
        ([part("a")], {"quality": EnsembleConfig()}, "'quality' has 0 members, and needs 1"),
        (judges("a", "b"), {"quality": EnsembleConfig(min_members=3)}, "has 2 members, and needs 3"),
        ([*judges("a"), part("quality")], {"quality": EnsembleConfig()}, "both called 'quality'"),
        (judges("a", weight=2.0), {"quality": EnsembleConfig()}, "weight, normalisation or clip"),
        (judges("a", clip=(0.0, 1.0)), {"quality": EnsembleConfig()}, "weight, normalisation or clip"),
        (judges("a", normalize="running"), {"quality": EnsembleConfig()}, "weight, normalisation or clip"),
        (judges("a", sigma=0.0), {"quality": EnsembleConfig()}, "known_sigma of 'a' is 0.0"),
        ([part("a", sigma=1.0)], {}, "has a known_sigma but estimates nothing"),
        ([part("a", clip=(1.0, 1.0))], {}, r"clip of 'a' is \[1.0, 1.0\]"),
    ],
)
def test_a_mistake_in_the_recipe_is_found_before_anything_is_scored(
    parts: list[FusionPart], ensembles: dict[str, EnsembleConfig], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        fusion(*parts, **ensembles)


def test_two_parts_of_one_label_are_refused() -> None:
    with pytest.raises(ValueError, match="two parts have the label 'a'"):
        fusion(part("a"), part("a"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"clip": (2.0, 1.0)}, "lower end"), ({"min_samples": 600}, "more than the window 512")],
)
def test_an_ensemble_that_contradicts_itself_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EnsembleConfig(**fields)
