"""The HTTP wire, both ends: a real server on a loopback port, without Ray."""

import asyncio
import pickle
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient

from antiphon.errors import UserError
from antiphon.privacy import PrivacyConfig
from reward_service.config import HttpConfig
from reward_service.http import HttpClient
from reward_service.http.door import door, ratings_path
from reward_service.http.gatekeeper import digest, token_of
from reward_service.http.wire import ComponentInfo
from reward_service.lines import describe
from reward_service.local import LocalClient
from reward_service.types import Sample, Score, Status
from tests.reward_service.fakes_rewards import HERE, recipe, sample

TOKEN = "s3cret"
MAX_BODY_BYTES = 2048
CONFIG = recipe(
    {"name": f"{HERE}:Obedient", "weight": 2.0},
    {"name": "regex", "pattern": "1", "weight": 0.0},
    http={"max_body_bytes": MAX_BODY_BYTES, "max_samples": 3},
)


class Breakable:
    """A service in this process that can be broken."""

    def __init__(self) -> None:
        self._client = LocalClient(CONFIG)
        self.is_broken = False
        self.said = "a bug in the service"
        self.timeouts_s: list[float | None] = []

    async def score(self, samples: Sequence[Sample], timeout_s: float | None) -> list[Score]:
        self.timeouts_s.append(timeout_s)
        if self.is_broken:
            raise RuntimeError(self.said)
        return await asyncio.to_thread(self._client.score, samples)

    async def ping(self) -> None:
        if self.is_broken:
            raise ConnectionError("no replica")

    def components(self) -> tuple[ComponentInfo, ...]:
        return describe(CONFIG)

    async def stats(self) -> dict[str, dict[str, float]]:
        return {"judge": {"cache/num_hits": 7.0, "breaker/state": 0.5, "budget/num_requests": 3.0}}


@contextmanager
def served(service: Breakable, token: str | None) -> Iterator[str]:
    """The URL of a door to the service."""
    app = door(service, CONFIG, None if token is None else digest(token))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def service() -> Breakable:
    return Breakable()


@pytest.fixture(scope="module")
def url(service: Breakable) -> Iterator[str]:
    with served(service, TOKEN) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[HttpClient]:
    client = HttpClient(url, TOKEN, num_retries=0)
    yield client
    client.close()


def test_scores_and_failures_cross_the_wire_unchanged(client: HttpClient) -> None:
    ok, failed = client.score(
        [
            sample("0.1", id="a", reference="r", metadata={"deep": [1, {"x": None}]}, is_truncated=True),
            sample("raise", id="b", prompt="Ω \N{GRINNING FACE}\n"),
        ]
    )
    assert (ok.id, ok.status, ok.value, ok.parts) == ("a", Status.OK, 0.2, {"Obedient": 0.1, "regex": 1.0})
    assert (failed.id, failed.status, failed.value) == ("b", Status.ERROR, None)
    assert failed.message.startswith("Obedient: ZeroDivisionError")


def test_the_log_of_a_bug_says_nothing_personal(caplog: pytest.LogCaptureFixture) -> None:
    """Mutation: exc_info=error writes the address."""
    service = Breakable()
    service.is_broken = True
    config = CONFIG.model_copy(update={"privacy": PrivacyConfig(mask=("email",))})
    client = TestClient(door(service, config, None), raise_server_exceptions=False)
    body = {"samples": [{"id": "a", "prompt": "p", "completion": "2"}]}
    service.said = "cannot score a@b.org"
    assert client.post("/v1/score", json=body).status_code == 500
    assert "RuntimeError: cannot score [email]" in caplog.text
    assert "a@b.org" not in caplog.text


def test_a_sample_may_be_short(url: str) -> None:
    body = {"samples": [{"id": "a", "prompt": "p", "completion": "2"}]}
    answer = httpx.post(f"{url}/v1/score", json=body, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.json()["scores"][0]["value"] == 4.0


@pytest.mark.parametrize(
    ("samples", "complaint"),
    [
        ([{"id": "a", "prompt": "p", "completion": "1", "refrence": "r"}], "refrence"),
        ([{"id": "a", "prompt": "p"}], "completion"),
        ([{"id": "a", "prompt": "p", "completion": 1}], "string"),
        ([{"id": "a", "prompt": "p", "completion": "1"}] * 2, "have the id 'a'"),
    ],
)
def test_a_wrong_request_is_refused_with_its_reason(url: str, samples: list, complaint: str) -> None:
    answer = httpx.post(
        f"{url}/v1/score", json={"samples": samples}, headers={"Authorization": f"Bearer {TOKEN}"}
    )
    assert answer.status_code == 422
    assert complaint in answer.text


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer"])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/score"), ("GET", "/metrics"), ("GET", "/nothing")]
)
def test_without_the_token_the_door_stays_shut(
    url: str, method: str, path: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = httpx.request(method, url + path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_the_client_names_a_refused_token(url: str) -> None:
    with pytest.raises(UserError, match="refuses the token"):
        HttpClient(url, "wrong").score([sample("1")])


def test_a_door_without_a_token_lets_everybody_in(service: Breakable) -> None:
    with served(service, None) as url:
        assert HttpClient(url).score([sample("1")])[0].value == 2.0


def test_a_failing_service_is_an_error_and_the_probe_sees_it(
    service: Breakable, url: str, client: HttpClient
) -> None:
    assert httpx.get(f"{url}/readyz").status_code == 200
    service.is_broken = True
    try:
        ready = httpx.get(f"{url}/readyz")
        assert (ready.status_code, ready.json()["detail"]) == (503, "no replica")
        # The service itself is up: to restart it would mend nothing.
        assert httpx.get(f"{url}/healthz").status_code == 200
        (score,) = client.score([sample("1")])
    finally:
        service.is_broken = False
    assert (score.status, score.value) == (Status.ERROR, None)
    assert "HTTP 500" in score.message


def test_nobody_at_the_port_is_an_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        (score,) = HttpClient(url, num_retries=0).score([sample("1")])
    assert (score.status, score.message[:26]) == (Status.ERROR, "the reward service was los")


def test_no_answer_by_the_deadline_is_a_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        (score,) = HttpClient(url, deadline_s=0.1).score([sample("1")])
    assert score.status is Status.TIMEOUT


def test_the_metrics_count_what_came_through_the_door(service: Breakable) -> None:
    with served(service, TOKEN) as url:
        client = HttpClient(url, TOKEN, num_retries=0)
        client.score([sample("1", id="a"), sample("2", id="b"), sample("raise", id="c")])
        text = httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
    assert 'antiphon_reward_http_samples_total{status="ok"} 2.0' in text
    assert 'antiphon_reward_http_samples_total{status="error"} 1.0' in text
    assert 'antiphon_reward_http_samples_total{status="timeout"} 0.0' in text
    assert "antiphon_reward_http_request_duration_seconds_count 1.0" in text
    # What the components counted: a counter, and two numbers that may fall.
    assert 'antiphon_reward_cache_hits_total{component="judge"} 7.0' in text
    assert 'antiphon_reward_breaker_state{component="judge"} 0.5' in text
    assert 'antiphon_reward_budget_requests{component="judge"} 3.0' in text


def test_listening_to_the_world_demands_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_TOKEN", raising=False)
    for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9"):
        assert token_of(HttpConfig(enabled=True, host=host, token_env="MY_TOKEN")) is None
    for host in ("0.0.0.0", "::", "10.0.0.7", "my-machine"):
        with pytest.raises(UserError, match="MY_TOKEN is not set"):
            token_of(HttpConfig(enabled=True, host=host, token_env="MY_TOKEN"))
    monkeypatch.setenv("MY_TOKEN", TOKEN)
    assert token_of(HttpConfig(enabled=True, host="0.0.0.0", token_env="MY_TOKEN")) == TOKEN


def test_the_service_tells_what_it_scores_by(client: HttpClient) -> None:
    first, second = client.components()
    assert (first.label, first.weight, first.low, first.high) == ("Obedient", 2.0, None, None)
    assert (second.label, second.placement, second.low, second.high) == ("regex", "isolated", 0.0, 1.0)


def test_nobody_there_to_tell_is_a_clear_error() -> None:
    with pytest.raises(UserError, match=r"no reward service answers at http://127\.0\.0\.1:1"):
        HttpClient("http://127.0.0.1:1").components()


def test_the_schema_names_every_route(url: str) -> None:
    schema = httpx.get(f"{url}/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"}).json()
    assert set(schema["paths"]) == {"/v1/score", "/v1/components", "/healthz", "/readyz", "/metrics"}


def test_a_body_that_is_too_long_is_refused_whether_it_says_so_or_not(url: str) -> None:
    body = b"x" * (MAX_BODY_BYTES + 1)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    declared = httpx.post(f"{url}/v1/score", content=body, headers=headers)
    # In chunks there is no length to be declared.
    chunked = httpx.post(f"{url}/v1/score", content=iter([body[:1000], body[1000:]]), headers=headers)
    for answer in (declared, chunked):
        assert answer.status_code == 413
        assert answer.json()["detail"] == f"a body may have {MAX_BODY_BYTES} bytes at most"


def test_too_many_samples_are_refused_with_the_limit(url: str) -> None:
    body = {"samples": [{"id": str(i), "prompt": "", "completion": "1"} for i in range(4)]}
    answer = httpx.post(f"{url}/v1/score", json=body, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 413
    assert answer.json()["detail"] == "a request may have 3 samples at most, this one has 4"


@pytest.mark.parametrize("given", ["run-7/update.12", None, "two words", "x" * 129, "ümlaut".encode()])
def test_every_answer_carries_the_id_of_its_request(url: str, given: str | bytes | None) -> None:
    headers = {} if given is None else {"X-Request-ID": given}
    answer = httpx.post(f"{url}/v1/score", headers=headers)
    assert answer.status_code == 401
    told = answer.headers["X-Request-ID"]
    assert answer.json()["request_id"] == told
    # A caller's own id where it is a plain word; else a fresh one, because it goes into logs and headers.
    assert told == given if given == "run-7/update.12" else len(told) == 32


def test_a_bug_in_the_service_is_told_with_the_id_to_look_for(service: Breakable, url: str) -> None:
    service.is_broken = True
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Request-ID": "seven"}
    try:
        answer = httpx.post(f"{url}/v1/score", json={"samples": []}, headers=headers)
    finally:
        service.is_broken = False
    assert answer.status_code == 500
    assert answer.json() == {"detail": "RuntimeError in the service, see its log", "request_id": "seven"}


def test_the_service_is_told_how_long_its_caller_waits(service: Breakable, url: str) -> None:
    HttpClient(url, TOKEN, deadline_s=7.0).score([sample("1")])
    told = service.timeouts_s[-1]
    assert told is not None
    assert 6.0 < told <= 7.0


def test_a_client_may_be_sent_to_other_processes(client: HttpClient) -> None:
    travelled = pickle.loads(pickle.dumps(client))
    assert travelled.score([sample("3")])[0].value == 6.0
    travelled.close()


def test_a_refusal_can_be_sent_whatever_the_request_was_made_of(url: str) -> None:
    body = b'{"samples": [], "\\ud800": 1}'
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    answer = httpx.post(f"{url}/v1/score", content=body, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["detail"]


def test_there_is_one_page_for_people_and_so_one_place_for_what_they_say(tmp_path: Path) -> None:
    first, second = ({"name": "human", "label": n, "path": str(tmp_path / n)} for n in "ab")
    with pytest.raises(UserError, match="different paths"):
        ratings_path(recipe(first, second))
    assert ratings_path(recipe(first)) == tmp_path / "a"
    assert ratings_path(recipe({"name": "exact_match"})) is None


def test_the_page_is_open_and_what_it_shows_is_not(service: Breakable, tmp_path: Path) -> None:
    config = recipe({"name": "human", "path": str(tmp_path / "ratings.db")})
    app = TestClient(door(service, config, digest(TOKEN)))
    assert app.get("/rate").status_code == 200
    assert app.get("/rate/next?rater=me").status_code == 401
    assert app.get("/rate/next?rater=me", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
