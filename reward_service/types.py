"""What travels to the reward service and back.

rollout worker --[Sample, ...]--> reward service --[Score, ...]--> rollout worker
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

Count = Annotated[int, Field(ge=0, strict=True)]
"""On the wire a number, and neither a text nor a boolean that could stand for one."""
Flag = Annotated[bool, Field(strict=True)]


class Status(StrEnum):
    """How scoring one sample ended. Only `ok` carries a number."""

    OK = "ok"
    TIMEOUT = "timeout"
    """The deadline passed; retried, then the sample is dropped."""
    ERROR = "error"
    """The component raised, or its process died; retried, then dropped."""
    UNPARSEABLE = "unparseable"
    """A judge answered something that is no score; retried, then dropped."""
    INVALID_INPUT = "invalid_input"
    """The sample lacks what the component needs (a reference, say); never retried."""
    OVER_BUDGET = "over_budget"
    """The hour's budget of a paid judge is spent; never retried, the sample is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What judging cost: requests to a judge, tokens it read and wrote, money in the budget's currency."""

    num_requests: int = 0
    num_tokens: int = 0
    money: float = 0.0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            num_requests=self.num_requests + other.num_requests,
            num_tokens=self.num_tokens + other.num_tokens,
            money=self.money + other.money,
        )


NOTHING = Usage()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One completion to be scored.

    Example:
        >>> Sample(id="0/17/2", prompt="sort 5821=", completion="1258", reference="1258")
    """

    id: str
    """Unique within a request; the answer carries it back, so that order can never matter."""
    prompt: str
    """The text of the prompt as the model saw it, special tokens left out."""
    completion: str
    """The text of the completion, special tokens left out."""
    reference: str | None = None
    """What a right answer looks like; None where the task has none."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Whatever the prompt source attached to the prompt; JSON-able."""
    num_tokens: Count = 0
    """Tokens of the completion, the stop token included."""
    is_truncated: Flag = False
    """True when generation ended by length and not by a stop token."""
    group: str = ""
    """Samples of one prompt share it; they are compared with each other where a component or a normaliser
    compares. Empty: the sample is alone."""
    policy_version: Count = 0
    """The update whose policy wrote the completion; weights that are schedules are read at it."""
    repeat: Count = 0
    """Which of several independent judgements of the same completion is wanted; a judge that samples derives
    its seed from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The verdict on one sample: a finite number if and only if the status is ok."""

    id: str
    """The id of the sample."""
    status: Status
    value: float | None = None
    """The weighted sum of the parts; None unless the status is ok."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """The raw score of every component that succeeded, by its label, before weighting."""
    latency_s: float = 0.0
    usage: Usage = NOTHING
    """What this score cost; nothing where it came out of the cache."""
    message: str = ""
    """Why the status is not ok: which component, and what it said."""

    def __post_init__(self) -> None:
        if (self.status is Status.OK) != (self.value is not None):
            raise ValueError(f"a score has a value if and only if it is ok: {self.status}, {self.value}")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"the value of a score must be finite, got {self.value}")

    @property
    def is_ok(self) -> bool:
        return self.status is Status.OK
