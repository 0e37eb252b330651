"""What a recipe says about making one number of many, and the parts as Fusion takes them."""

from dataclasses import dataclass
from typing import Self

from pydantic import Field, model_validator

from antiphon.schedules import Schedule
from antiphon.settings import Settings
from reward_service.fusion.align import Align
from reward_service.fusion.calibration import Calibration
from reward_service.fusion.normalize import Clip, Normalize


class EnsembleConfig(Settings):
    """Several noisy judgements of one quantity, made one score. Its members say `estimates: <name>`."""

    weight: Schedule = 1.0
    """Of the fused score in the reward; its members have no weights of their own."""
    normalize: Normalize = "none"
    """Of the fused score: none, running (by all scores so far) or per_prompt."""
    clip: Clip | None = None
    """Lowest and highest fused score, after normalisation."""
    align: Align = "bias"
    """Brings judges onto one scale without labels: bias makes their means equal, scale their spreads too, for
    judges of different makes; none takes them at their word."""
    is_weighted: bool = True
    """Judges count by inverse variance; else all alike."""
    outlier_threshold: float | None = Field(3.5, gt=0.0, allow_inf_nan=False)
    """A judgement this many of its judge's usual deviations away from the others is left out (3.5: Iglewicz
    and Hoaglin). Null keeps all. Of two judgements neither is ever left out."""
    leaves_out_contrary: bool = True
    """A judge that says the opposite of at least two others, for certain, is not counted."""
    is_shrunk: bool = True
    """Scores are drawn towards the mean of their prompt by as much as they are noise."""
    prior_strength: float = Field(8.0, ge=0.0, allow_inf_nan=False)
    """How the quality within a prompt varies is estimated from its own completions and from all prompts in
    the window; this many completions is what the latter counts for. 0: each prompt on its own."""
    min_members: int | None = Field(None, ge=1)
    """A sample is scored where at least so many members judged it; all of them unless set."""
    window: int = Field(512, ge=8)
    """Samples (and prompts) that the noise is estimated from, the newest ones. More where judges do not
    change, fewer where the policy changes fast."""
    min_samples: int = Field(32, ge=2)
    """Below so many nothing is known of the noise: judges count alike, nothing is left out or shrunk."""

    @model_validator(mode="after")
    def _fits_the_window(self) -> Self:
        if self.min_samples > self.window:
            raise ValueError(f"min_samples {self.min_samples} is more than the window {self.window}")
        return self

    @model_validator(mode="after")
    def _clip_is_an_interval(self) -> Self:
        if self.clip is not None and not is_interval(self.clip):
            raise ValueError(f"the lower end of clip comes first, got {list(self.clip)}")
        return self


class FusionConfig(Settings):
    """How the scores of components become one reward."""

    ensembles: dict[str, EnsembleConfig] = Field(default_factory=dict)
    """By name. A component joins one with `estimates: <name>`."""


@dataclass(frozen=True, kw_only=True)
class FusionPart:
    """What fusion has to know of a component."""

    label: str
    weight: Schedule = 1.0
    """In the sum; must be left at 1 where the part estimates something: the ensemble has the weight."""
    normalize: Normalize = "none"
    clip: Clip | None = None
    estimates: str | None = None
    """The ensemble that it is a member of."""
    sigma: float | None = None
    """Standard deviation of the noise of one judgement, where it is known; else it is estimated."""
    calibration: Calibration | None = None
    """Applied to every judgement before anything else."""


def is_interval(clip: Clip) -> bool:
    """Whether the first number lies below the second; NaN lies nowhere."""
    return clip[0] < clip[1]
