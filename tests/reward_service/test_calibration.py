"""A judge measured against trusted labels."""

import json
from pathlib import Path

import numpy as np
import pytest

from antiphon.errors import UserError
from reward_service.fusion.calibrate import calibrate_file, cross_validated, fit_calibration, read_labels
from reward_service.fusion.calibration import Calibration, load_calibration, save_calibration

NAN = float("nan")


def written(path: Path, rows: list[tuple[float, float]]) -> Path:
    path.write_text("".join(json.dumps({"score": s, "label": y}) + "\n" for s, y in rows))
    return path


def test_a_curve_is_straight_in_between_and_flat_outside() -> None:
    curve = Calibration(kind="isotonic", xs=(1.0, 3.0), ys=(0.2, 0.6))
    assert curve.apply(np.array([[0.0, 1.0], [2.0, 9.0]])) == pytest.approx(
        np.array([[0.2, 0.2], [0.4, 0.6]])
    )
    assert np.isnan(curve.apply(np.array([NAN]))).all()


def test_a_logistic_curve() -> None:
    curve = Calibration(kind="logistic", slope=2.0, intercept=-1.0)
    # 2 x 0.5 - 1 = 0; 2 x 1 - 1 = 1.
    assert curve.apply(np.array([0.5, 1.0])) == pytest.approx([0.5, 1 / (1 + np.exp(-1.0))])
    assert curve.apply(np.array([-1e300, 1e300])) == pytest.approx([0.0, 1.0])
    assert np.isnan(curve.apply(np.array([NAN]))).all()


def test_isotonic_regression_pools_what_falls() -> None:
    scores, labels = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 1.0, 0.0, 1.0])
    # 1 and 0 in the middle become 1/2 twice.
    fitted = fit_calibration("isotonic", scores, labels)
    assert fitted.apply(scores) == pytest.approx([0.0, 0.5, 0.5, 1.0])


def test_logistic_regression_finds_the_curve_that_made_the_labels() -> None:
    random = np.random.default_rng(0)
    scores = random.uniform(0.0, 10.0, 4000)
    chance = 1 / (1 + np.exp(-(0.8 * scores - 4.0)))
    fitted = fit_calibration("logistic", scores, (random.random(4000) < chance).astype(float))
    assert fitted.slope == pytest.approx(0.8, rel=0.1)
    assert fitted.intercept == pytest.approx(-4.0, rel=0.1)


def test_labels_between_no_and_yes_count_as_parts_of_both() -> None:
    scores = np.linspace(0.0, 10.0, 400)
    labels = 1 / (1 + np.exp(-(0.8 * scores - 4.0)))
    assert fit_calibration("logistic", scores, labels).apply(scores) == pytest.approx(labels, abs=0.03)


def test_labels_that_can_be_told_apart_perfectly_give_a_finite_slope() -> None:
    fitted = fit_calibration("logistic", np.arange(20.0), (np.arange(20) >= 10).astype(float))
    assert 0.0 < fitted.slope < 5.0
    assert fitted.apply(np.array([9.5])) == pytest.approx([0.5], abs=0.02)


def test_a_judge_who_likes_what_is_bad_is_turned_round() -> None:
    scores = np.arange(20.0)
    assert fit_calibration("logistic", scores, (scores < 10).astype(float)).slope < 0.0


def test_labels_that_are_all_the_same_are_refused() -> None:
    with pytest.raises(UserError, match="all labels are the same"):
        fit_calibration("logistic", np.arange(20.0), np.ones(20))


def test_a_calibrated_judge_is_nearer_to_labels_that_it_did_not_see() -> None:
    random = np.random.default_rng(0)
    truth = random.random(400)
    scores = 4.0 + 2.0 * truth + random.normal(0.0, 0.2, 400)  # On another scale.
    for report in (cross_validated("isotonic", scores, truth), cross_validated("logistic", scores, truth)):
        assert report.num_labels == 400
        assert report.calibrated < 0.5 * report.constant < report.raw
        # Always the mean: the variance of the labels, 1/12.
        assert report.constant == pytest.approx(1 / 12, rel=0.1)


def test_a_judge_who_knows_nothing_is_no_better_than_the_mean_label() -> None:
    random = np.random.default_rng(0)
    reports = [cross_validated("isotonic", random.random(40), random.random(40)) for _ in range(20)]
    # On the labels that it was fitted to any rising curve would look better than none.
    assert sum(r.calibrated for r in reports) > 1.02 * sum(r.constant for r in reports)


@pytest.mark.parametrize("kind", ["isotonic", "logistic"])
def test_from_labels_to_a_file_and_back(kind: str, tmp_path: Path) -> None:
    rows = [(i / 10, float(i >= 10)) for i in range(20)]
    report = calibrate_file(written(tmp_path / "labels.jsonl", rows), tmp_path / "curve.json", kind)
    loaded = load_calibration(tmp_path / "curve.json")
    assert loaded == fit_calibration(kind, np.array([s for s, _ in rows]), np.array([y for _, y in rows]))
    saved = json.loads((tmp_path / "curve.json").read_text())
    assert saved["report"]["calibrated"] == report.calibrated < report.constant


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"score": 0.5}', "line 11: Field required"),
        ('{"score": 0.5, "label": 2}', "line 11: .*less than or equal to 1"),
        ('{"score": NaN, "label": 1}', "line 11: .*finite"),
        ("nonsense", "line 11: Invalid JSON"),
    ],
)
def test_a_wrong_line_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = written(tmp_path / "labels.jsonl", [(0.0, 0.0)] * 10)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=message):
        read_labels(path)


def test_few_labels_or_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has 9 labels"):
        read_labels(written(tmp_path / "few.jsonl", [(0.0, 0.0)] * 9))
    with pytest.raises(UserError, match="cannot be read"):
        read_labels(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"kind": "isotonic", "xs": [0, 1], "ys": [1, 0]}', "must not fall"),
        ('{"kind": "isotonic", "xs": [0, 0], "ys": [0, 1]}', "xs must rise"),
        ('{"kind": "isotonic", "xs": [0], "ys": [0, 1]}', "as many of both"),
        ('{"kind": "isotonic"}', "as many of both"),
        ('{"kind": "logistic", "slope": Infinity}', "finite"),
        ('{"kind": "cubic"}', "isotonic"),
        ('{"kind": "logistic", "slop": 1}', "Extra"),
        ("[", "JSON"),
    ],
)
def test_a_file_that_is_no_calibration_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "curve.json").write_text(content)
    with pytest.raises(UserError, match=message):
        load_calibration(tmp_path / "curve.json")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_calibration(tmp_path / "none.json")


def test_what_is_saved_a_person_can_read(tmp_path: Path) -> None:
    save_calibration(Calibration(kind="logistic", slope=2.0), tmp_path / "curve.json", {"num_labels": 3})
    assert '"slope": 2.0' in (tmp_path / "curve.json").read_text()
