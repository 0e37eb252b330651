"""The openai backend against a real HTTP server on loopback that limits, fails, hangs and babbles."""

import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from antiphon.errors import UserError
from reward_service.building import build_reward
from reward_service.judging.asking import Asking
from reward_service.types import Sample, Score, Status
from tests.reward_service.fakes_judges import Act, Endpoint, completion, endpoint, parrot, saying
from tests.reward_service.fakes_rewards import sample

KEY_ENV = "ANTIPHON_TEST_JUDGE_KEY"
HANGS_S = 30.0
"""Longer than any test may take."""


@contextmanager
def judge_at(url: str, *, options: dict[str, Any] | None = None, **backend: Any) -> Iterator[Asking]:
    """A started judge that asks the endpoint."""
    section = {"name": "openai", "base_url": url, "model": "m", **backend}
    judge = build_reward("judge", {"backend": section, "scale": [0, 10], **(options or {})}, "reward")
    assert isinstance(judge, Asking)
    judge.start()
    try:
        yield judge
    finally:
        judge.close()


def scores_of(
    act: Act, *completions: str, options: dict[str, Any] | None = None, **backend: Any
) -> list[Score]:
    with endpoint(act) as server, judge_at(server.url, options=options, **backend) as judge:
        return judge.score([sample(c, id=str(i)) for i, c in enumerate(completions)])


def numbered(num: int) -> list[Sample]:
    """Samples whose right score is a function of their id."""
    return [sample(f"Score: {i % 11}", id=str(i), metadata={"n": i}, prompt=f"p{i}") for i in range(num)]


def test_every_sample_gets_the_reply_to_its_own_question() -> None:
    dice = random.Random(0)

    def act(state: Endpoint, body: dict[str, Any]) -> Any:
        time.sleep(dice.uniform(0.0, 0.01))
        return parrot(state, body)

    with endpoint(act) as server, judge_at(server.url, max_concurrent=16) as judge:
        scores = judge.score(numbered(100))
        assert [(s.id, s.value) for s in scores] == [(str(i), i % 11 / 10) for i in range(100)]
        assert len(server.bodies) == 100
        # Side by side, and never more than allowed.
        assert 2 <= server.most_at_once <= 16


def test_several_threads_share_one_limit_and_get_their_own_replies() -> None:
    def act(state: Endpoint, body: dict[str, Any]) -> Any:
        time.sleep(0.003)
        return parrot(state, body)

    with (
        endpoint(act) as server,
        judge_at(server.url, max_concurrent=5) as judge,
        ThreadPoolExecutor(6) as pool,
    ):
        for scores in pool.map(judge.score, [numbered(20)] * 6):
            assert [s.value for s in scores] == [i % 11 / 10 for i in range(20)]
        assert server.most_at_once <= 5


def test_the_request_is_what_the_api_wants() -> None:
    with endpoint(saying("Score: 5")) as server:
        options = {"temperature": 0.5, "max_new_tokens": 9, "system": "You judge.", "rubric": "Be short."}
        extra = {"reasoning_effort": "low"}
        with judge_at(server.url + "/", options=options, extra=extra) as judge:
            judge.score([sample("blue")])
        (body,) = server.bodies
        assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0.5, 9)
        assert body["reasoning_effort"] == "low"
        assert 0 <= body["seed"] < 2**31
        assert [m["role"] for m in body["messages"]] == ["system", "user"]
        assert body["messages"][0]["content"] == "You judge."
        assert "Be short." in body["messages"][1]["content"]
        assert "Authorization" not in server.headers[0]


def test_fields_that_an_endpoint_does_not_know_can_be_taken_out() -> None:
    with endpoint(saying("Score: 5")) as server:
        backend = {"tokens_field": "max_completion_tokens", "extra": {"seed": None, "temperature": None}}
        with judge_at(server.url, **backend) as judge:
            judge.score([sample("blue")])
        assert set(server.bodies[0]) == {"model", "messages", "max_completion_tokens"}


def test_what_the_endpoint_counts_is_what_the_score_cost() -> None:
    (score,) = scores_of(saying("Score: 5"), "a", price_read=2.0, price_written=8.0)
    # 100 tokens read at 2 and 10 written at 8 per million.
    assert score.usage.money == pytest.approx(280e-6)
    assert (score.usage.num_requests, score.usage.num_tokens) == (1, 110)


def test_an_endpoint_that_does_not_count_is_taken_to_have_cost_the_estimate() -> None:
    def act(state: Endpoint, body: dict[str, Any]) -> Any:
        return 200, {}, completion("Score: 5", usage=None)

    with endpoint(act) as server, judge_at(server.url, price_written=1.0) as judge:
        (score,) = judge.score([sample("a")])
        assert score.usage == judge.estimate(sample("a"))
        assert score.usage.money == pytest.approx(512e-6)


def refusing(num: int, status: int, headers: dict[str, str]) -> Act:
    """Refuses the first requests, and then replies."""
    lock, left = threading.Lock(), [num]

    def act(state: Endpoint, body: dict[str, Any]) -> Any:
        with lock:
            left[0] -= 1
            is_refused = left[0] >= 0
        return (status, headers, b"slow down") if is_refused else parrot(state, body)

    return act


@pytest.mark.parametrize("status", [429, 503])
def test_a_rate_limit_is_waited_out_for_as_long_as_the_endpoint_says(status: int) -> None:
    act = refusing(2, status, {"Retry-After": "0.2"})
    with endpoint(act) as server, judge_at(server.url, max_concurrent=1) as judge:
        scores = judge.score(numbered(3))
        assert [s.value for s in scores] == [0.0, 0.1, 0.2]
        # The refused requests are counted where they were sent.
        assert sum(s.usage.num_requests for s in scores) == len(server.times) == 5
        pauses = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
        assert pauses[0] >= 0.2
        assert pauses[1] >= 0.2


def test_while_the_endpoint_wants_patience_nobody_asks() -> None:
    def act(state: Endpoint, body: dict[str, Any]) -> Any:
        number = len(state.bodies)
        if number == 1:
            return 429, {"Retry-After": "0.6"}, b""
        if number == 2:
            # Under way when the first was refused; when it ends, another question has its slot.
            time.sleep(0.3)
        return parrot(state, body)

    with endpoint(act) as server, judge_at(server.url, max_concurrent=2) as judge:
        assert all(s.is_ok for s in judge.score(numbered(6)))
        assert server.times[2] - server.times[0] >= 0.6
        assert len(server.times) == 7


def test_a_rate_limit_without_a_word_is_tried_again_after_a_pause() -> None:
    act = refusing(1, 429, {})
    assert [s.value for s in scores_of(act, "Score: 5", "Score: 6")] == [0.5, 0.6]


def test_a_pause_past_the_deadline_is_not_waited_for() -> None:
    start = time.monotonic()
    act = refusing(99, 429, {"Retry-After": "3600"})
    (score,) = scores_of(act, "a", options={"deadline_s": 60.0})
    assert score.status is Status.TIMEOUT
    assert "wants no requests" in score.message
    assert time.monotonic() - start < 30.0


def failing(status: int, text: str) -> Act:
    """Fails where the judged answer says so, and replies elsewhere."""

    def act(state: Endpoint, body: dict[str, Any]) -> Any:
        if "\nfail\n" in body["messages"][1]["content"]:
            return status, {}, text.encode()
        return parrot(state, body)

    return act


@pytest.mark.parametrize(
    ("code", "text", "status"),
    [
        (500, "oops", Status.ERROR),
        (502, "<html>bad gateway</html>", Status.ERROR),
        (503, "overloaded", Status.ERROR),
        (504, "upstream", Status.TIMEOUT),
        (408, "slow", Status.TIMEOUT),
        (400, '{"error": {"code": "context_length_exceeded"}}', Status.INVALID_INPUT),
        (400, "unknown field seed", Status.ERROR),
        (413, "large", Status.INVALID_INPUT),
        (404, "no such model", Status.ERROR),
        (301, "moved", Status.ERROR),
        (204, "", Status.ERROR),
    ],
)
def test_a_failure_is_told_once_and_spares_the_neighbours(code: int, text: str, status: Status) -> None:
    first, second, third = scores_of(failing(code, text), "Score: 1", "fail", "Score: 3")
    assert (first.value, third.value) == (0.1, 0.3)
    assert (second.status, second.value) == (status, None)
    assert str(code) in second.message
    assert text in second.message
    # Whether to try again is for the service to decide.
    assert second.usage.num_requests == 1


MALFORMED = [
    b"",
    b"not json",
    b"[]",
    b"null",
    b"{}",
    b'{"choices": []}',
    b'{"choices": [{}]}',
    b'{"choices": "Score: 7"}',
    b'{"choices": [{"message": {"content": 7}}]}',
    b'{"choices": [{"message": {"content": "Score: 7"}}], "usage": {"prompt_tokens": -5}}',
    b"\xff\xfe\x00",
    completion("Score: 7")[:-20],
]


@pytest.mark.parametrize("content", MALFORMED)
def test_an_answer_that_is_no_chat_completion_is_an_error(content: bytes) -> None:
    (score,) = scores_of(lambda state, body: (200, {}, content), "a")
    assert (score.status, score.value) == (Status.ERROR, None)
    assert "no chat completion" in score.message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (completion(None), "refuses"),
        (completion("Score: 1", finish_reason="length"), "cut off"),
        (completion("Score: 1", finish_reason="content_filter"), "filter"),
        (completion("I would say 7"), "last line"),
        (completion(""), "last line"),
    ],
)
def test_a_completion_without_a_whole_score_is_unparseable(content: bytes, message: str) -> None:
    (score,) = scores_of(lambda state, body: (200, {}, content), "a")
    assert score.status is Status.UNPARSEABLE
    assert message in score.message
    assert score.usage.num_tokens == 110


def test_an_answer_that_breaks_off_is_an_error() -> None:
    whole = completion("Score: 7")

    def act(state: Endpoint, body: dict[str, Any]) -> Any:
        return 200, {"Content-Length": str(len(whole)), "Connection": "close"}, iter([whole[:30]])

    (score,) = scores_of(act, "a")
    assert score.status is Status.ERROR
    assert "RemoteProtocolError" in score.message


def hanging(state: Endpoint, body: dict[str, Any]) -> Any:
    """Does not answer where the judged answer says so."""
    if "\nhang\n" in body["messages"][1]["content"]:
        state.over.wait(HANGS_S)
    return parrot(state, body)


def dripping(state: Endpoint, body: dict[str, Any]) -> Any:
    """Sends a byte now and then, so that no pause between two bytes is ever long."""

    def drops() -> Iterator[bytes]:
        while not state.over.wait(0.02):
            yield b" "

    if "\nhang\n" in body["messages"][1]["content"]:
        return 200, {"Content-Length": "100000"}, drops()
    return parrot(state, body)


@pytest.mark.parametrize("act", [hanging, dripping])
def test_a_slow_request_is_a_timeout_and_its_neighbours_are_in_time(act: Act) -> None:
    start = time.monotonic()
    first, second, third = scores_of(act, "Score: 1", "hang", "Score: 3", timeout_s=1.0)
    assert (first.value, third.value) == (0.1, 0.3)
    assert second.status is Status.TIMEOUT
    assert "within 1 s" in second.message
    assert time.monotonic() - start < 10.0


def test_what_is_not_reached_before_the_calls_deadline_is_a_timeout() -> None:
    start = time.monotonic()
    completions = ["hang", "hang", "Score: 3"]
    scores = scores_of(hanging, *completions, options={"deadline_s": 0.4}, max_concurrent=1)
    assert [s.status for s in scores] == [Status.TIMEOUT] * 3
    assert "deadline" in scores[2].message
    # The first was sent, the others never were.
    assert [s.usage.num_requests for s in scores] == [1, 0, 0]
    assert time.monotonic() - start < 10.0


def test_nobody_at_home_is_an_error() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        with judge_at(url) as judge:
            (score,) = judge.score([sample("a")])
    assert score.status is Status.ERROR
    assert "cannot be reached" in score.message


def locked(key: str) -> Act:
    """Wants a key, and tells everybody which one it was shown."""

    def act(state: Endpoint, body: dict[str, Any]) -> Any:
        shown = state.headers[-1].get("Authorization", "")
        if shown != f"Bearer {key}":
            return 401, {}, f"wrong key: {shown}".encode()
        return parrot(state, body)

    return act


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, "s3cret\n")
    assert scores_of(locked("s3cret"), "Score: 5", api_key_env=KEY_ENV)[0].value == 0.5


def test_a_wrong_key_is_an_error_that_does_not_tell_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, "wr0ng")
    (score,) = scores_of(locked("s3cret"), "Score: 5", api_key_env=KEY_ENV)
    assert score.status is Status.ERROR
    assert "401" in score.message
    assert "wr0ng" not in score.message


def test_a_key_that_is_not_set_is_told_when_the_judge_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_ENV, raising=False)
    section = {"name": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m", "api_key_env": KEY_ENV}
    judge = build_reward("judge", {"backend": section}, "reward")
    with pytest.raises(UserError, match=f"export {KEY_ENV}"):
        judge.start()


@pytest.mark.parametrize(
    ("setting", "value", "problem"),
    [
        ("api_key_env", "sk-abc123", "pattern"),
        ("base_url", "https://user:pass@host/v1", "api_key_env"),
        ("base_url", "api.openai.com/v1", "must begin with http"),
        ("model", "", "at least 1"),
        ("max_concurrent", 0, "greater than or equal to 1"),
    ],
)
def test_mistakes_in_the_recipe(setting: str, value: object, problem: str) -> None:
    section = {"name": "openai", "base_url": "http://h/v1", "model": "m", setting: value}
    with pytest.raises(UserError, match=problem):
        build_reward("judge", {"backend": section}, "reward")


def with_logprobs(*tokens: tuple[str, float]) -> Act:
    """Gives these tokens with their log-probabilities for the first place."""
    top = [{"token": token, "logprob": logprob, "bytes": []} for token, logprob in tokens]
    place = {"token": tokens[0][0], "logprob": tokens[0][1], "top_logprobs": top}
    answer = json.loads(completion("x", finish_reason="length"))
    answer["choices"][0]["logprobs"] = {"content": [place]}
    return lambda state, body: (200, {}, json.dumps(answer).encode())


def test_the_expected_score_comes_from_the_endpoints_logprobs() -> None:
    # ln 0.5 and ln 0.25, twice: 2 has 0.5 + 0.25, 10 has 0.25: (2 * 0.75 + 10 * 0.25) / 1 = 4 of 10.
    act = with_logprobs(("2", -0.6931472), (" 2", -1.3862944), ("10", -1.3862944), ("The", -9.0))
    with endpoint(act) as server, judge_at(server.url, options={"answer": "expected"}) as judge:
        (score,) = judge.score([sample("a")])
        assert score.value == pytest.approx(0.4)
        body = server.bodies[0]
        assert (body["logprobs"], body["top_logprobs"], body["max_tokens"]) == (True, 20, 1)


def test_an_endpoint_without_logprobs_is_an_error() -> None:
    (score,) = scores_of(saying("7"), "a", options={"answer": "expected"})
    assert score.status is Status.ERROR
    assert "answer `expected`" in score.message


def test_a_judge_that_was_not_started_says_so() -> None:
    section = {"name": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m"}
    with pytest.raises(RuntimeError, match="start"):
        build_reward("judge", {"backend": section}, "reward").score([sample("a")])


def test_a_closed_judge_leaves_no_thread_behind() -> None:
    def judges() -> int:
        return sum(thread.name == "judge" for thread in threading.enumerate())

    num = judges()
    with endpoint(saying("Score: 5")) as server, judge_at(server.url) as judge:
        assert judge.score([sample("a")])[0].value == 0.5
        assert judges() == num + 1
    assert judges() == num
