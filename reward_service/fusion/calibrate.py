"""Fits a judge to trusted labels. Called by whoever has labels; needs scikit-learn.

    {"score": 0.7, "label": 1}        one line per completion that a judge scored and a person labelled
    {"score": 0.2, "label": 0}

Labels lie in [0, 1]. How the curve is kept and applied: calibration.py.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic import Field, ValidationError

from antiphon.errors import UserError
from antiphon.settings import Settings
from reward_service.fusion.arrays import Floats, want_rank
from reward_service.fusion.calibration import Calibration, Kind, save_calibration, text_of

MIN_LABELS = 10
NUM_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class CalibrationReport:
    """Mean squared distance from labels that were not fitted to."""

    num_labels: int
    raw: float
    """Of the scores as the judge gives them."""
    calibrated: float
    constant: float
    """Of always saying the mean label: a judge that is no better than this knows nothing."""


class _Row(Settings):
    """A line of the file with labels."""

    score: float = Field(allow_inf_nan=False)
    label: float = Field(ge=0.0, le=1.0)


def calibrate_file(labels: Path, out: Path, kind: Kind) -> CalibrationReport:
    """Fits a curve to a JSONL file of scores and labels, and saves it.

    Raises:
        UserError: a file that cannot be read, a wrong line, too few labels, or scikit-learn is missing.
    """
    scores, wanted = read_labels(labels)
    report = cross_validated(kind, scores, wanted)
    save_calibration(fit_calibration(kind, scores, wanted), out, asdict(report))
    return report


def read_labels(path: Path) -> tuple[Floats, Floats]:
    """Scores and labels of a JSONL file. -> [n], [n]

    Raises:
        UserError: a file that cannot be read, a wrong line, or too few lines.
    """
    lines = enumerate(text_of(path).splitlines(), start=1)
    rows = [_row(line, f"{path}, line {number}") for number, line in lines if line.strip()]
    if len(rows) < MIN_LABELS:
        raise UserError(f"{path} has {len(rows)} labels", remedy=f"label at least {MIN_LABELS} completions")
    return np.array([r.score for r in rows]), np.array([r.label for r in rows])


def fit_calibration(kind: Kind, scores: Floats, labels: Floats) -> Calibration:
    """The curve of this kind that comes nearest to the labels. [n], [n]

    Raises:
        UserError: scikit-learn is missing.
        ValueError: unequal shapes.
    """
    want_rank(1, scores=scores, labels=labels)
    return _isotonic(scores, labels) if kind == "isotonic" else _logistic(scores, labels)


def cross_validated(kind: Kind, scores: Floats, labels: Floats) -> CalibrationReport:
    """How good such curves are on labels that they did not see: every fifth in turn is kept back. [n], [n]"""
    fold = np.arange(len(scores)) % NUM_FOLDS
    calibrated, constant = np.empty_like(scores), np.empty_like(scores)
    for number in range(NUM_FOLDS):
        kept_back = fold == number
        fitted = fit_calibration(kind, scores[~kept_back], labels[~kept_back])
        calibrated[kept_back] = fitted.apply(scores[kept_back])
        constant[kept_back] = labels[~kept_back].mean()
    raw, fitted_error, constant_error = (
        float(((said - labels) ** 2).mean()) for said in (scores, calibrated, constant)
    )
    return CalibrationReport(
        num_labels=len(scores), raw=raw, calibrated=fitted_error, constant=constant_error
    )


def _isotonic(scores: Floats, labels: Floats) -> Calibration:
    """Pool adjacent violators."""
    try:
        from sklearn.isotonic import IsotonicRegression
    except ImportError as error:
        raise _missing() from error
    fitted = IsotonicRegression(out_of_bounds="clip").fit(scores, labels)
    xs, ys = fitted.X_thresholds_, fitted.y_thresholds_
    return Calibration(kind="isotonic", xs=tuple(map(float, xs)), ys=tuple(map(float, ys)))


def _logistic(scores: Floats, labels: Floats) -> Calibration:
    """Each label y counts as y of a yes and 1 − y of a no.

    Scores are standardised first, so that scikit-learn's own penalty (C = 1) fits any scale; it keeps the
    slope finite where the labels can be told apart perfectly.
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise _missing() from error
    mean, std = float(scores.mean()), float(scores.std()) or 1.0
    inputs = np.concatenate([scores, scores])[:, None]
    classes = np.repeat([1, 0], len(scores))
    weights = np.concatenate([labels, 1.0 - labels])
    if weights[: len(scores)].sum() in (0.0, float(len(scores))):
        raise UserError("all labels are the same", remedy="label good and bad completions")
    fitted = LogisticRegression().fit((inputs - mean) / std, classes, sample_weight=weights)
    slope = float(fitted.coef_[0, 0]) / std
    return Calibration(kind="logistic", slope=slope, intercept=float(fitted.intercept_[0]) - slope * mean)


def _row(line: str, where: str) -> _Row:
    try:
        return _Row.model_validate_json(line)
    except ValidationError as error:
        raise UserError(
            f"{where}: {error.errors()[0]['msg']}",
            remedy='write {"score": number, "label": 0 to 1} in each line',
        ) from None


def _missing() -> UserError:
    return UserError("fitting needs scikit-learn", remedy="pip install 'antiphon[rewards]'")
