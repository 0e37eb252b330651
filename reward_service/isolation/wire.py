"""What travels between the pool and a worker: frames of bytes with their length in front.

pool -> worker   the number of a task and its Sample, pickled: the pool is trusted, and the component
                 sees exactly what it would see in the process of the service
worker -> pool   an Answer as JSON, checked: a worker runs untrusted code, and nothing that it sends is
                 unpickled, believed to be short or believed to be an answer
"""

import math
import pickle
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BufferedReader

from pydantic import TypeAdapter, ValidationError

from reward_service.types import Sample, Score

HEADER = struct.Struct("!I")
MAX_ANSWER_BYTES = 65536
MAX_MESSAGE_CHARS = 1000
"""A message that holds a whole completion helps nobody."""


class BadAnswer(Exception):
    """What a worker sent is no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A worker's verdict on one sample."""

    number: int
    """Of the task. It stands for the id of the sample, which a worker need not repeat."""
    score: Score
    is_last: bool
    """The worker ends after this answer."""


_ANSWERS = TypeAdapter(Answer)


def framed(payload: bytes) -> bytes:
    return HEADER.pack(len(payload)) + payload


def encode_task(number: int, sample: Sample) -> bytes:
    """A task as a frame.

    Raises:
        Exception: the metadata cannot be pickled.
    """
    return framed(pickle.dumps((number, sample), pickle.HIGHEST_PROTOCOL))


def read_task(stream: BufferedReader) -> tuple[int, Sample] | None:
    """The next task; None where the pool has hung up. Only for the worker's end."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (length,) = HEADER.unpack(header)
    number, sample = pickle.loads(stream.read(length))
    return number, sample


def encode_answer(answer: Answer) -> bytes:
    """An answer as a frame; its message is cut, and freed of what UTF-8 cannot say."""
    message = answer.score.message[:MAX_MESSAGE_CHARS].encode(errors="replace").decode()
    return framed(_ANSWERS.dump_json(replace(answer, score=replace(answer.score, message=message))))


def decode_answer(payload: bytes) -> Answer:
    """The answer in a frame.

    Raises:
        BadAnswer: there is none.
    """
    try:
        answer = _ANSWERS.validate_json(payload, strict=True)
    except ValidationError:
        raise BadAnswer(f"wrote what is no answer: {payload[:80]!r}") from None
    if not all(math.isfinite(part) for part in answer.score.parts.values()):
        raise BadAnswer("wrote an answer with parts that are not finite")
    return answer


class Frames:
    """Puts frames together from bytes as they come."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that are whole now, without their headers.

        Raises:
            BadAnswer: a frame is announced that is longer than any answer.
        """
        self._bytes += data
        while len(self._bytes) >= HEADER.size:
            (length,) = HEADER.unpack_from(self._bytes)
            if length > MAX_ANSWER_BYTES:
                raise BadAnswer(f"announced an answer of {length} bytes, more than {MAX_ANSWER_BYTES}")
            end = HEADER.size + length
            if len(self._bytes) < end:
                return
            frame = bytes(self._bytes[HEADER.size : end])
            del self._bytes[:end]
            yield frame
