"""What travels between the pool and its workers, and what is refused."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.isolation.wire import (
    HEADER,
    MAX_ANSWER_BYTES,
    MAX_MESSAGE_CHARS,
    Answer,
    BadAnswer,
    Frames,
    decode_answer,
    encode_answer,
    encode_task,
    framed,
    read_task,
)
from reward_service.types import Score, Status, Usage
from tests.reward_service.fakes_rewards import sample

OK = {"id": "", "status": "ok", "value": 1.0}


def answer(**fields: object) -> bytes:
    return json.dumps({"number": 1, "score": OK, "is_last": False, **fields}).encode()


def test_tasks_arrive_as_they_were_sent_and_end_with_the_stream() -> None:
    # Tuples, integers as keys and half a character: JSON would change all of them.
    what = sample("\ud800", metadata={"pair": (1, 2), "by_number": {3: "x"}})
    stream = io.BufferedReader(io.BytesIO(encode_task(7, what) + encode_task(8, sample("b")) + b"\x00\x00"))
    assert read_task(stream) == (7, what)
    assert read_task(stream) == (8, sample("b"))
    assert read_task(stream) is None


def test_answers_arrive_with_all_that_a_score_carries() -> None:
    score = Score(
        id="s",
        status=Status.OK,
        value=0.1,
        parts={"a": 0.2},
        latency_s=0.3,
        usage=Usage(num_requests=1, num_tokens=2, money=0.4),
        message="кот 猫",
    )
    for sent in (score, Score(id="", status=Status.UNPARSEABLE, message="hm")):
        whole = Answer(number=5, score=sent, is_last=True)
        (frame,) = Frames().feed(encode_answer(whole))
        assert decode_answer(frame) == whole


def test_messages_are_cut_and_freed_of_half_characters() -> None:
    long = Score(id="", status=Status.ERROR, message="\ud800" + "x" * 10 * MAX_MESSAGE_CHARS)
    (frame,) = Frames().feed(encode_answer(Answer(number=1, score=long, is_last=False)))
    assert decode_answer(frame).score.message == "?" + "x" * (MAX_MESSAGE_CHARS - 1)


@given(st.lists(st.binary(max_size=20), max_size=5), st.lists(st.integers(1, 9), min_size=1))
def test_frames_come_whole_however_the_bytes_are_split(payloads: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(map(framed, payloads))
    frames, got, at = Frames(), [], 0
    while at < len(stream):
        size = sizes[at % len(sizes)]
        got += list(frames.feed(stream[at : at + size]))
        at += size
    assert got == payloads


def test_a_frame_longer_than_any_answer_is_refused_before_it_comes() -> None:
    assert list(Frames().feed(HEADER.pack(MAX_ANSWER_BYTES))) == []
    with pytest.raises(BadAnswer, match=f"{MAX_ANSWER_BYTES + 1} bytes"):
        list(Frames().feed(HEADER.pack(MAX_ANSWER_BYTES + 1)))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"[" * 60000,
        b"1" * 60000,
        b"\xff\xfe",
        answer(number="1"),
        answer(number=1.5),
        answer(is_last="yes"),
        answer(score={**OK, "value": None}),
        answer(score={**OK, "value": "1.0"}),
        answer(score={**OK, "value": float("nan")}),
        answer(score={**OK, "value": float("inf")}),
        answer(score={**OK, "status": "fine"}),
        answer(score={**OK, "status": "error"}),
        answer(score={**OK, "parts": {"a": float("nan")}}),
        answer(score={**OK, "parts": {"a": "b"}}),
    ],
)
def test_what_is_no_answer_is_refused(payload: bytes) -> None:
    with pytest.raises(BadAnswer):
        decode_answer(payload)


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_to_be_refused(payload: bytes) -> None:
    with pytest.raises(BadAnswer):
        decode_answer(payload)
