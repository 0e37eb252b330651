"""What crosses the HTTP wire.

POST /v1/score        ScoreRequest -> ScoreAnswer
GET  /v1/components   -> ComponentList
"""

from pydantic import ConfigDict, Field, field_validator

from antiphon.settings import Settings
from reward_service.bundle import check_ids
from reward_service.types import Sample, Score


class ScoreRequest(Settings):
    """The body of POST /v1/score."""

    # JSON has neither tuples nor enums, and a caller may leave out what has a default.
    model_config = ConfigDict(strict=False)

    samples: tuple[Sample, ...]
    """Their ids must differ. Samples of one prompt share a `group`, where a component compares them."""
    timeout_s: float | None = Field(None, gt=0.0, allow_inf_nan=False, strict=True)
    """When the caller stops waiting; never longer than the service itself does."""

    @field_validator("samples")
    @classmethod
    def _ids_differ(cls, samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
        check_ids(samples)
        return samples


class ScoreAnswer(Settings):
    """What POST /v1/score answers."""

    model_config = ConfigDict(strict=False)

    scores: tuple[Score, ...]
    """One per sample, in the same order."""


class ComponentInfo(Settings):
    """A component of the service, as GET /v1/components tells of it."""

    model_config = ConfigDict(strict=False)

    label: str
    """Its name in the parts of a score."""
    name: str
    version: int
    low: float | None
    """The lowest score, or null where there is no bound."""
    high: float | None
    weight: float
    """At policy version 0."""
    placement: str
    """cpu, isolated or own."""


class ComponentList(Settings):
    """What GET /v1/components answers."""

    model_config = ConfigDict(strict=False)

    components: tuple[ComponentInfo, ...]


class Problem(Settings):
    """What any refusal answers."""

    model_config = ConfigDict(strict=False)

    detail: str
    request_id: str = ""
