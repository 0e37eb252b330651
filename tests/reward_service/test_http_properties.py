"""The door under requests that nobody thought of: generated from its own schema, and from the wire types."""

import asyncio
import json
from collections.abc import Sequence

import httpx
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from schemathesis.specs.openapi.checks import positive_data_acceptance

from reward_service.http.door import build_app, door
from reward_service.http.wire import ComponentInfo, ScoreAnswer, ScoreRequest
from reward_service.lines import describe
from reward_service.local import LocalClient
from reward_service.types import Sample, Score, Status
from tests.reward_service.fakes_rewards import recipe

CONFIG = recipe({"name": "exact_match"}, {"name": "length", "max": 5})


class Here:
    """The service in this process."""

    def __init__(self) -> None:
        self._client = LocalClient(CONFIG)

    async def score(self, samples: Sequence[Sample], timeout_s: float | None) -> list[Score]:
        return await asyncio.to_thread(self._client.score, samples)

    async def ping(self) -> None: ...

    def components(self) -> tuple[ComponentInfo, ...]:
        return describe(CONFIG)

    async def stats(self) -> dict[str, dict[str, float]]:
        return {}


APP = door(Here(), CONFIG, None)
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", build_app(Here(), CONFIG.http))


@SCHEMA.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_request_that_fits_the_schema_or_misses_it_breaks_the_service(case: schemathesis.Case) -> None:
    """Answers have a documented status and form; no 500, whatever comes in."""
    # That ids must differ is a rule that a schema cannot say.
    case.call_and_validate(excluded_checks=[positive_data_acceptance])


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
TEXT = st.text(max_size=40)
SAMPLE = st.builds(
    Sample,
    id=TEXT,
    prompt=TEXT,
    completion=TEXT,
    reference=st.none() | TEXT,
    metadata=st.dictionaries(st.text(max_size=8), JSON, max_size=4),
    num_tokens=st.integers(0, 2**40),
    is_truncated=st.booleans(),
    group=TEXT,
    policy_version=st.integers(0, 2**31),
    repeat=st.integers(0, 9),
)
FAILED = st.sampled_from([s for s in Status if s is not Status.OK])
SCORE = st.builds(
    Score,
    id=TEXT,
    status=st.just(Status.OK),
    value=st.floats(allow_nan=False, allow_infinity=False),
    parts=st.dictionaries(TEXT, st.floats(allow_nan=False, allow_infinity=False), max_size=4),
    latency_s=st.floats(0.0, 1e6),
) | st.builds(Score, id=TEXT, status=FAILED, message=TEXT)


@given(st.lists(SAMPLE, max_size=4, unique_by=lambda s: s.id))
@settings(max_examples=50, deadline=None)
def test_samples_cross_the_wire_unchanged(samples: list[Sample]) -> None:
    body = ScoreRequest(samples=tuple(samples)).model_dump_json()
    assert list(ScoreRequest.model_validate_json(body).samples) == samples


@given(st.lists(SCORE, max_size=4))
@settings(max_examples=50, deadline=None)
def test_scores_cross_the_wire_unchanged(scores: list[Score]) -> None:
    body = ScoreAnswer(scores=tuple(scores)).model_dump_json()
    assert list(ScoreAnswer.model_validate_json(body).scores) == scores


@given(JSON | st.binary(max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_body_is_scored_or_refused_with_a_reason(body: object) -> None:
    async def post() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(APP), base_url="http://here") as client:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            return await client.post(
                "/v1/score", content=content, headers={"Content-Type": "application/json"}
            )

    answer = asyncio.run(post())
    assert answer.status_code in (200, 400, 422)
    if answer.status_code != 200:
        assert answer.json()["detail"]


@given(st.floats() | st.none(), st.sampled_from(list(Status)))
def test_no_answer_can_carry_a_value_without_being_ok_or_be_ok_without_one(
    value: float | None, status: Status
) -> None:
    told = {"scores": [{"id": "a", "status": status.value, "value": value}]}
    is_right = (status is Status.OK) == (value is not None) and (value is None or abs(value) < float("inf"))
    try:
        ScoreAnswer.model_validate(told)
    except ValidationError:
        assert not is_right
    else:
        assert is_right
