"""Several noisy judgements of one quantity: synthetic judges whose noise, and whose truth, is known."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from reward_service.fusion.config import EnsembleConfig
from reward_service.fusion.ensemble import Ensemble, Fused

NUM_PROMPTS, GROUP_SIZE, WARM_UP = 32, 8, 2
Warp = Callable[[np.ndarray, np.ndarray, np.random.Generator], None]
"""Changes judgements [n, m, k] of known quality [n] in place."""


def ensemble(num_judges: int, sigma: list[float | None] | None = None, **config: Any) -> Ensemble:
    labels = [f"judge{i}" for i in range(num_judges)]
    return Ensemble(EnsembleConfig(**config), labels, sigma or [None] * num_judges)


def batch(
    random: np.random.Generator, sigma: list[float], num_repeats: int, warp: Warp | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Quality [n], judgements [n, m, k] and groups [n]; quality varies by 0.2 between and within prompts."""
    group = np.repeat(np.arange(NUM_PROMPTS), GROUP_SIZE)
    quality = 0.5 + 0.2 * random.normal(size=NUM_PROMPTS)[group] + 0.2 * random.normal(size=len(group))
    noise = random.normal(size=(len(group), len(sigma), num_repeats)) * np.array(sigma)[:, None]
    judged = quality[:, None, None] + noise
    if warp is not None:
        warp(quality, judged, random)
    return quality, judged, group


def errors(
    sigma: list[float], *, num_repeats: int = 1, warp: Warp | None = None, num_batches: int = 6, **config: Any
) -> dict[str, float]:
    """Mean squared errors after two batches: of the fused score, the best single judge and the plain mean."""
    random, fusing = np.random.default_rng(0), ensemble(len(sigma), **config)
    squared: dict[str, list[np.ndarray]] = {"fused": [], "mean": [], "best": []}
    for number in range(num_batches):
        quality, judged, group = batch(random, sigma, num_repeats, warp)
        fused = fusing.fuse(judged.tolist(), group)
        if number >= WARM_UP:
            single = judged.mean(axis=2)
            squared["fused"].append((fused.value - quality) ** 2)
            squared["mean"].append((single.mean(axis=1) - quality) ** 2)
            squared["best"].append((single - quality[:, None]) ** 2)
    return {
        "fused": float(np.mean(squared["fused"])),
        "mean": float(np.mean(squared["mean"])),
        "best": float(np.concatenate(squared["best"]).mean(axis=0).min()),
    }


def contrary(quality: np.ndarray, judged: np.ndarray, random: np.random.Generator) -> None:
    """The last judge likes what is bad, and is sure of it."""
    judged[:, -1] = 1.0 - quality[:, None] + 0.05 * random.normal(size=judged[:, -1].shape)


def enthusiastic(quality: np.ndarray, judged: np.ndarray, random: np.random.Generator) -> None:
    """The first judge says 3 to every tenth completion."""
    judged[random.random(len(quality)) < 0.1, 0] = 3.0


def garbled(quality: np.ndarray, judged: np.ndarray, random: np.random.Generator) -> None:
    """Every tenth repeat is 3."""
    judged[random.random(judged.shape) < 0.1] = 3.0


def timid(quality: np.ndarray, judged: np.ndarray, random: np.random.Generator) -> None:
    """The second judge says 0.6 to 0.9 where others say 0 to 1."""
    judged[:, 1] = 0.6 + 0.3 * judged[:, 1]


def kind(quality: np.ndarray, judged: np.ndarray, random: np.random.Generator) -> None:
    """The first judge says 0.5 more."""
    judged[:, 0] += 0.5


@pytest.mark.parametrize("level", [0.25, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("num_repeats", [1, 3])
def test_fused_and_shrunk_is_better_than_the_best_judge_and_than_the_mean(
    level: float, num_repeats: int
) -> None:
    error = errors([0.3 * level, 0.5 * level, 0.8 * level], num_repeats=num_repeats)
    assert error["fused"] < 0.9 * min(error["best"], error["mean"])


@pytest.mark.parametrize("level", [0.25, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("num_repeats", [1, 3])
def test_so_it_is_with_one_judge_who_likes_what_is_bad(level: float, num_repeats: int) -> None:
    sigma = [0.3 * level, 0.4 * level, 0.5 * level, 0.0]
    error = errors(sigma, num_repeats=num_repeats, warp=contrary)
    assert error["fused"] < 0.95 * min(error["best"], error["mean"])


def test_a_judge_who_repeats_himself_is_not_believed_for_that() -> None:
    # By its repeats alone the contrary judge, with σ 0.05, would have most of the weight.
    fusing, random = ensemble(3, leaves_out_contrary=False), np.random.default_rng(0)
    _, judged, group = batch(random, [0.2, 0.2, 0.2], 4, contrary)
    fused = fusing.fuse(judged.tolist(), group)
    assert fused.share[:, 2].max() < 0.15
    # |q - (1 - q)| varies by twice the 0.28 that quality does.
    assert 0.4 < fusing.stats()["judge2/sigma"] < 0.75


def test_a_contrary_judge_is_not_counted() -> None:
    sigma = [0.3, 0.4, 0.0]
    error = errors(sigma, warp=contrary)
    assert error["fused"] < 0.93 * errors(sigma, warp=contrary, leaves_out_contrary=False)["fused"]
    fusing = ensemble(3)
    _, judged, group = batch(np.random.default_rng(0), sigma, 1, contrary)
    readings = judged.tolist()
    readings[0][:2] = [[], []]
    fused = fusing.fuse(readings, group)
    assert fusing.stats()["judge2/is_contrary"] == 1.0
    assert not fused.share[1:, 2].any()
    # Where nobody else spoke it is all there is.
    assert fused.share[0].tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("sigma", [0.2, 0.5, 1.0])
def test_one_judge_who_is_asked_several_times_is_shrunk(sigma: float) -> None:
    error = errors([sigma], num_repeats=4)
    assert error["fused"] < 0.9 * error["best"] == pytest.approx(0.9 * error["mean"])


def test_two_judges_who_are_asked_twice_are_fused_by_their_repeats() -> None:
    error = errors([0.2, 0.5], num_repeats=2)
    assert error["fused"] < 0.8 * min(error["best"], error["mean"])


def test_wild_judgements_are_left_out() -> None:
    error = errors([0.1, 0.2, 0.3], warp=enthusiastic)
    careless = errors([0.1, 0.2, 0.3], warp=enthusiastic, outlier_threshold=None)
    assert error["fused"] < 0.5 * careless["fused"]
    assert error["fused"] < 0.5 * min(error["best"], error["mean"])


def test_what_is_left_out_is_counted() -> None:
    _, judged, group = batch(np.random.default_rng(0), [0.1, 0.2, 0.3], 3, None)
    judged[:25, 0] += 5.0  # A judge is wild,
    judged[25:50, 1, 2] += 5.0  # or one of its repeats.
    num_outliers = ensemble(3).fuse(judged.tolist(), group).num_outliers
    assert num_outliers[:50].min() == np.median(num_outliers[:25]) == np.median(num_outliers[25:50]) == 1
    assert num_outliers[50:].sum() < 5


def test_wild_repeats_are_left_out() -> None:
    error = errors([0.3], num_repeats=5, warp=garbled)
    careless = errors([0.3], num_repeats=5, warp=garbled, outlier_threshold=None)
    # What is left: of five repeats three are wild in one case of a hundred.
    assert error["fused"] < 0.4 * careless["fused"]


def test_ordinary_noise_is_hardly_ever_taken_for_an_outlier() -> None:
    _, judged, group = batch(np.random.default_rng(0), [0.1, 0.2, 0.4], 3, None)
    assert ensemble(3).fuse(judged.tolist(), group).num_outliers.mean() < 0.02


def test_judges_on_different_scales_are_aligned() -> None:
    aligned = errors([0.2, 0.2, 0.2], warp=timid, align="scale")
    assert aligned["fused"] < 0.85 * errors([0.2, 0.2, 0.2], warp=timid, align="none")["fused"]
    assert aligned["fused"] < 0.8 * min(aligned["best"], aligned["mean"])


def test_what_is_believed_of_a_judge_is_on_the_common_scale() -> None:
    fusing, random = ensemble(3, align="scale"), np.random.default_rng(0)
    for _ in range(2):
        _, judged, group = batch(random, [0.2, 0.2, 0.2], 3, timid)
        fusing.fuse(judged.tolist(), group)
    stats = fusing.stats()
    # 0.3 of the scale is used, with 0.3 of the noise: stretched, both are those of the others.
    assert stats["judge1/factor"] == pytest.approx(1 / 0.3, rel=0.15)
    assert stats["judge1/sigma"] == pytest.approx(0.2, rel=0.15)


def test_judges_who_hardly_met_do_not_know_each_other() -> None:
    random, fusing = np.random.default_rng(0), ensemble(2)
    _, judged, group = batch(random, [0.1, 0.2], 1, None)
    readings = judged.tolist()
    for i in range(20, len(readings)):
        readings[i][i % 2] = []
    fused = fusing.fuse(readings, group)
    assert (fusing.stats()["judge0/is_known"], fusing.stats()["judge1/is_known"]) == (0.0, 0.0)
    assert fused.share[:20].tolist() == [[0.5, 0.5]] * 20


def test_a_kind_judge_is_moved_and_not_blamed_for_it() -> None:
    aligned = errors([0.2, 0.3, 0.4], warp=kind)
    assert aligned["fused"] < 0.6 * errors([0.2, 0.3, 0.4], warp=kind, align="none")["fused"]
    assert aligned["fused"] < 0.8 * min(aligned["best"], aligned["mean"])


def test_prompts_differ_in_how_much_their_completions_do() -> None:
    # Every other prompt has completions of one quality; its scores are drawn further to the mean.
    fusing, random = ensemble(1, [0.2]), np.random.default_rng(0)
    group = np.repeat(np.arange(NUM_PROMPTS), GROUP_SIZE)
    quality = np.where(group % 2, 0.4, 0.0) * random.normal(size=len(group))
    judged = (quality + 0.2 * random.normal(size=len(group)))[:, None, None]
    shrinkage = fusing.fuse(judged.tolist(), group).shrinkage
    assert shrinkage[group % 2 == 0].mean() < 0.6 < shrinkage[group % 2 == 1].mean()


def test_the_given_noise_is_believed() -> None:
    # Two samples of one prompt. Noise 3 and 1 of one judgement: weights 1/9 and 1, so 0.1 x 10 + 0.9 x 0 = 1.
    fusing = ensemble(2, [3.0, 1.0])
    fused = fusing.fuse([[(10.0,), (0.0,)], [(11.0,), (1.0,)]], np.array([0, 1]))
    assert fused.value == pytest.approx([1.0, 2.0])
    assert fused.sigma == pytest.approx([0.9**0.5] * 2)
    # Nine judgements of judge 1 are worth one of judge 2.
    repeated = ensemble(2, [3.0, 1.0]).fuse([[(10.0,) * 9, (0.0,)]], np.array([0]))
    assert repeated.value == pytest.approx([5.0])


def test_no_judge_gets_all_the_weight() -> None:
    # σ 0.001 against 1 counts as a tenth of the median variance, 0.5: weights 1 / 0.05 and 1.
    fused = ensemble(2, [0.001, 1.0]).fuse([[(10.0,), (0.0,)]], np.array([0]))
    assert fused.share[0] == pytest.approx([20 / 21, 1 / 21], rel=1e-4)


def test_before_anything_is_known_judges_count_alike() -> None:
    fused = ensemble(3).fuse([[(1.0,), (2.0,), (6.0,)], [(1.0,), (1.0,), (1.0,)]], np.array([0, 0]))
    assert fused.value == pytest.approx([3.0, 1.0])
    assert np.isnan(fused.sigma).all()
    assert fused.shrinkage.tolist() == [1.0, 1.0]
    assert fused.num_outliers.tolist() == [0, 0]


def test_a_single_judge_without_repeats_is_taken_at_its_word() -> None:
    _, judged, group = batch(np.random.default_rng(0), [0.5], 1, None)
    fused = ensemble(1).fuse(judged.tolist(), group)
    assert fused.value == pytest.approx(judged[:, 0, 0])
    assert np.isnan(fused.sigma).all()


def test_the_corrections_can_be_switched_off_one_by_one() -> None:
    _, judged, group = batch(np.random.default_rng(0), [0.1, 0.2, 0.6], 1, None)
    off = {"align": "none", "is_weighted": False, "is_shrunk": False, "outlier_threshold": None}
    off["leaves_out_contrary"] = False
    plain: Fused = ensemble(3, **off).fuse(judged.tolist(), group)
    assert plain.value == pytest.approx(judged.mean(axis=(1, 2)))
    # The noise of the mean of three: (0.01 + 0.04 + 0.36) / 9.
    assert plain.sigma.mean() == pytest.approx((0.41 / 9) ** 0.5, rel=0.15)
    weighted = ensemble(3, is_shrunk=False).fuse(judged.tolist(), group)
    assert weighted.shrinkage.tolist() == [1.0] * len(group)
    assert weighted.share.mean(axis=0) == pytest.approx([0.78, 0.2, 0.02], abs=0.1)


def test_a_judge_who_is_missing_is_made_up_for_by_the_others() -> None:
    random, fusing = np.random.default_rng(0), ensemble(3)
    quality, judged, group = batch(random, [0.1, 0.2, 0.3], 1, None)
    readings = judged.tolist()
    for i in range(0, len(readings), 4):
        readings[i][0] = []
    fused = fusing.fuse(readings, group)
    assert fused.share[::4, 0].tolist() == [0.0] * 64
    assert np.median(fused.sigma[::4]) > 1.2 * np.median(fused.sigma[1::4])
    assert ((fused.value - quality) ** 2).mean() < 0.04


def test_of_what_nobody_judged_nothing_is_said_or_learned() -> None:
    fusing = ensemble(2, window=8, min_samples=2)
    fused = fusing.fuse([[(), ()], [(1.0,), (2.0,)]], np.array([0, 0]))
    assert np.isnan(fused.value[0])
    assert fused.value[1] == pytest.approx(1.5)
    assert len(fusing.state_dict()["seen"]["rows"]) == 1 * 4 * 2


def test_a_number_too_large_to_be_squared_is_not_learned_from() -> None:
    random, fusing = np.random.default_rng(0), ensemble(3, outlier_threshold=None)
    with np.errstate(over="ignore", invalid="ignore"):
        fusing.fuse([[(1e200,), (1.0,), (1.0,)], [(1e200,), (1.0,), (1.0,)]], np.array([0, 0]))
        _, judged, group = batch(random, [0.1, 0.1, 0.1], 1, None)
        assert np.isfinite(fusing.fuse(judged.tolist(), group).value).all()
    assert fusing.stats()["judge0/sigma"] == pytest.approx(0.1, rel=0.2)


def test_a_batch_beyond_the_window_is_learned_from_as_a_whole() -> None:
    _, judged, group = batch(np.random.default_rng(0), [0.3], 2, None)
    fusing = ensemble(1, window=8, min_samples=8)
    fusing.fuse(judged.tolist(), group)
    # 256 pairs: good to 5 %; 8 pairs would be good to 25 %.
    assert fusing.stats()["judge0/sigma"] == pytest.approx(0.3, rel=0.08)


def test_what_is_old_is_forgotten() -> None:
    random, fusing = np.random.default_rng(0), ensemble(1, window=256)
    for sigma in (0.8, 0.8, 0.2):
        _, judged, group = batch(random, [sigma], 2, None)
        fusing.fuse(judged.tolist(), group)
    assert fusing.stats()["judge0/sigma"] == pytest.approx(0.2, rel=0.15)


def test_an_ensemble_that_was_saved_goes_on_as_if_it_had_not_stopped() -> None:
    random, before, after = np.random.default_rng(0), ensemble(3, align="scale"), ensemble(3, align="scale")
    for _ in range(3):
        _, judged, group = batch(random, [0.1, 0.2, 0.3], 2, timid)
        before.fuse(judged.tolist(), group)
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert after.stats() == before.stats()
    _, judged, group = batch(random, [0.1, 0.2, 0.3], 2, timid)
    ours, theirs = before.fuse(judged.tolist(), group), after.fuse(judged.tolist(), group)
    assert ours.value.tolist() == theirs.value.tolist()
    assert before.state_dict() == after.state_dict()


def test_the_state_of_other_judges_is_refused() -> None:
    other = ensemble(2)
    other.fuse([[(1.0,), (2.0,)]], np.array([0]))
    with pytest.raises(ValueError, match="reshape"):
        ensemble(3).load_state_dict(other.state_dict())
