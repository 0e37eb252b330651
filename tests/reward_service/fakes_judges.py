"""Judges that are not language models: endpoints on loopback, and backends that go by simple rules."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from antiphon.settings import Settings
from reward_service.building import build_reward
from reward_service.judging.asking import Asking
from reward_service.judging.backend import Backend, Question, Reply
from reward_service.types import Status, Usage

HERE = "tests.reward_service.fakes_judges"
ANSWER = re.compile(r"<(answer[-AB]*)-([0-9a-f]+)>\n(.*?)\n</\1-\2>", re.DOTALL)


def judge_of(kind: str, backend: str, **options: Any) -> Asking:
    """A started judge component whose backend is one of this file."""
    component = build_reward(kind, {"backend": {"name": f"{HERE}:{backend}"}, **options}, "reward")
    assert isinstance(component, Asking)
    component.start()
    return component


def answers_in(user: str) -> list[str]:
    """The judged texts that a question shows, in its order."""
    return [match[3] for match in ANSWER.finditer(user)]


class Rule(Backend):
    """Replies by a rule; remembers what it was asked."""

    is_concurrent = True

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self.asked: list[Question] = []

    def ask(self, questions: Sequence[Question], deadline: float) -> list[Reply]:
        self.asked += questions
        return [self.reply(q, answers_in(q.user)) for q in questions]

    def reply(self, question: Question, answers: Sequence[str]) -> Reply:
        raise NotImplementedError


class Parrot(Rule):
    """Says what the answer says."""

    name = "parrot"

    def reply(self, question: Question, answers: Sequence[str]) -> Reply:
        return Reply(text=answers[0], usage=Usage(num_requests=1, num_tokens=7))


class Broken(Rule):
    """Fails as the answer says, or gives 10."""

    name = "broken"

    def reply(self, question: Question, answers: Sequence[str]) -> Reply:
        for word in answers:
            if word in ("timeout", "error", "invalid_input"):
                return Reply(status=Status(word), message=f"no luck: {word}", usage=Usage(num_requests=1))
        return Reply(text="Score: 10" if len(answers) == 1 else "Better: A", usage=Usage(num_requests=1))


class Larger(Rule):
    """Prefers the larger number, and is fair: the order means nothing to it."""

    name = "larger"

    def reply(self, question: Question, answers: Sequence[str]) -> Reply:
        first, second = map(float, answers)
        word = "tie" if first == second else "A" if first > second else "B"
        return Reply(text=f"Better: {word}", usage=Usage(num_requests=1, num_tokens=5))


class First(Rule):
    """Always prefers what it sees first."""

    name = "first"

    def reply(self, question: Question, answers: Sequence[str]) -> Reply:
        return Reply(text="Better: A")


class Weigher(Rule):
    """Reads the probabilities of the options off the answer: "0.1 0.2 ..."."""

    name = "weigher"

    def reply(self, question: Question, answers: Sequence[str]) -> Reply:
        return Reply(shares=tuple(float(word) for word in answers[0].split()))


class Jealous(Parrot):
    """Takes one call at a time."""

    name = "jealous"
    is_concurrent = False


Headers = Mapping[str, str]
Act = Callable[["Endpoint", dict[str, Any]], tuple[int, Headers, bytes | Iterator[bytes]]]
"""What an endpoint does with a request: status, headers, body (an iterator is written piece by piece)."""


@dataclass
class Endpoint:
    """A real HTTP server on loopback that speaks the chat API, as far as its act does."""

    act: Act
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    most_at_once: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    """Set when the test ends, so that whatever hangs lets go."""
    num_inside: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def enter(self, body: dict[str, Any], headers: Mapping[str, str]) -> None:
        with self.lock:
            self.bodies.append(body)
            self.headers.append(headers)
            self.times.append(time.monotonic())
            self.num_inside += 1
            self.most_at_once = max(self.most_at_once, self.num_inside)

    def leave(self) -> None:
        with self.lock:
            self.num_inside -= 1


@contextmanager
def endpoint(act: Act) -> Iterator[Endpoint]:
    """A running endpoint; its `url` is the base URL of a recipe."""
    state = Endpoint(act)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            assert self.path == "/v1/chat/completions"
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.enter(body, dict(self.headers))
            status, headers, content = act(state, body)
            state.leave()
            pieces = [content] if isinstance(content, bytes) else content
            own = {"Content-Length": str(len(content))} if isinstance(content, bytes) else {}
            try:
                self.send_response(status)
                for key, value in {**own, **headers}.items():
                    self.send_header(key, value)
                self.end_headers()
                for piece in pieces:
                    self.wfile.write(piece)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            """Not into the output of the tests."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

    with Server(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}/v1"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield state
        finally:
            state.over.set()
            server.shutdown()
            thread.join()


def completion(content: str | None, finish_reason: str = "stop", **more: Any) -> bytes:
    """A chat completion as the API words it; 100 tokens read, 10 written."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": content},
        "finish_reason": finish_reason,
    }
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [choice],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }
    return json.dumps(answer | more).encode()


def saying(content: str) -> Act:
    """Always the same reply."""
    return lambda state, body: (200, {}, completion(content))


def parrot(state: Endpoint, body: dict[str, Any]) -> tuple[int, Headers, bytes]:
    """Replies what the judged answer says."""
    return 200, {}, completion(answers_in(body["messages"][1]["content"])[0])
