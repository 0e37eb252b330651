"""What a judge's score means on the scale of trusted labels: a curve, applied as a pure function.

Made by calibrate.py, kept as JSON that a person can read, loaded by the assembly, applied by Fusion to every
judgement.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from antiphon.errors import UserError
from antiphon.settings import Settings
from reward_service.fusion.arrays import Floats

Kind = Literal["isotonic", "logistic"]
"""isotonic   any curve that never falls; wants a few hundred labels, and makes steps
logistic   1 / (1 + exp(−(a x + b))) (Platt 1999); does with some dozens, and may fall"""
LARGEST_LOGIT = 700.0
"""exp of more overflows."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """isotonic: through the points (xs, ys), straight in between and flat outside; logistic: slope and
    intercept."""

    kind: Kind
    xs: tuple[float, ...] = ()
    ys: tuple[float, ...] = ()
    slope: float = 0.0
    intercept: float = 0.0

    def apply(self, scores: Floats) -> Floats:
        """Scores on the scale of the labels. Any shape; NaN stays NaN."""
        if self.kind == "isotonic":
            return np.where(np.isnan(scores), np.nan, np.interp(scores, self.xs, self.ys))
        logit = np.clip(self.slope * scores + self.intercept, -LARGEST_LOGIT, LARGEST_LOGIT)
        return np.asarray(1.0 / (1.0 + np.exp(-logit)))


class _Saved(Settings):
    """A calibration as it lies on disk."""

    kind: Kind
    xs: tuple[float, ...] = ()
    ys: tuple[float, ...] = ()
    slope: float = 0.0
    intercept: float = 0.0
    report: dict[str, Any] = Field(default_factory=dict)
    """How good it was on labels that it did not see; for people."""


def save_calibration(calibration: Calibration, path: Path, report: dict[str, Any]) -> None:
    """Writes the curve, and beside it how good it was."""
    path.write_text(json.dumps({**asdict(calibration), "report": report}, indent=2) + "\n")


def load_calibration(path: Path) -> Calibration:
    """What `save_calibration` wrote.

    Raises:
        UserError: a file that cannot be read, or is no calibration.
    """
    try:
        saved = _Saved.model_validate_json(text_of(path))
    except ValidationError as error:
        raise _no_calibration(path, error.errors()[0]["msg"]) from None
    if not all(math.isfinite(x) for x in (*saved.xs, *saved.ys, saved.slope, saved.intercept)):
        raise _no_calibration(path, "its numbers must be finite")
    is_curve = len(saved.xs) == len(saved.ys) > 0 and (np.diff(saved.xs) > 0).all()
    if saved.kind == "isotonic" and not (is_curve and (np.diff(saved.ys) >= 0).all()):
        raise _no_calibration(path, "xs must rise, ys must not fall, and there must be as many of both")
    return Calibration(**saved.model_dump(exclude={"report"}))


def text_of(path: Path) -> str:
    """Raises UserError for a file that cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}", remedy="name a file that is there") from None


def _no_calibration(path: Path, problem: str) -> UserError:
    return UserError(
        f"{path} holds no calibration: {problem}",
        remedy="make one with reward_service.fusion.calibrate.calibrate_file",
    )
