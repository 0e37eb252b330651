"""What stands before the door: who may enter, with how large a body, and under which name.

Pure ASGI, so that a request is refused before its body is read.
"""

import hashlib
import hmac
import json
import re
import uuid
from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from antiphon.errors import UserError
from antiphon.secrets import read_secret
from reward_service.config import HttpConfig

REQUEST_ID = "x-request-id"
_FIT_ID = re.compile(r"[\w.:/+-]{1,128}", re.ASCII)
OPEN_PATHS: tuple[str, ...] = ("/healthz", "/readyz")
"""For probes, which carry no token."""


def token_of(http: HttpConfig) -> str | None:
    """The bearer token that callers must show, from the environment or a file.

    Raises:
        UserError: there is none, although others than this machine could knock.
    """
    token = read_secret(http.token_env)
    if http.enabled and token is None and not http.is_loopback:
        raise UserError(
            f"reward.http.host is {http.host!r}, which others can reach, and {http.token_env} is not set",
            remedy=f"export {http.token_env}=… with a long random token, or listen at 127.0.0.1",
        )
    return token


def digest(token: str) -> bytes:
    """What the door keeps of a token: enough to recognise it, nothing to steal."""
    return hashlib.sha256(token.encode()).digest()


class Gatekeeper:
    """Refuses what may not enter; gives every request an id and every answer its id."""

    def __init__(
        self,
        app: ASGIApp,
        token_digest: bytes | None,
        max_body_bytes: int,
        open_paths: Sequence[str] = OPEN_PATHS,
    ) -> None:
        """`token_digest` None lets everybody in."""
        self._app = app
        self._token_digest = token_digest
        self._max_body_bytes = max_body_bytes
        self._open_paths = tuple(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        request_id = _request_id(headers.get(REQUEST_ID, ""))
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, request_id)
        if not self._may_enter(scope["path"], headers.get("authorization", "")):
            await answer.refuse(401, "a bearer token is needed", (b"www-authenticate", b"Bearer"))
            return
        body = await self._body(headers.get("content-length", ""), receive)
        if body is None:
            await answer.refuse(413, f"a body may have {self._max_body_bytes} bytes at most")
            return
        await self._app(scope, _replay(body, receive), answer)

    def _may_enter(self, path: str, authorization: str) -> bool:
        """Compares digests in constant time, so that an answer's delay tells nothing about the token."""
        if self._token_digest is None or path in self._open_paths:
            return True
        scheme, _, token = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(digest(token), self._token_digest)

    async def _body(self, declared: str, receive: Receive) -> list[Message] | None:
        """The messages of the body, or None if it is too long: declared so, or found so on the way."""
        if declared.isascii() and declared.isdigit() and int(declared) > self._max_body_bytes:
            return None
        messages: list[Message] = []
        num_bytes = 0
        while True:
            message = await receive()
            messages.append(message)
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._max_body_bytes:
                return None
            if message["type"] != "http.request" or not message.get("more_body", False):
                return messages


class _Answer:
    """Sends an answer on, with the id of its request."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self._request_id = send, request_id

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            header = (REQUEST_ID.encode(), self._request_id.encode())
            message = {**message, "headers": [*message.get("headers", []), header]}
        await self._send(message)

    async def refuse(self, status: int, detail: str, *headers: tuple[bytes, bytes]) -> None:
        body = json.dumps({"detail": detail, "request_id": self._request_id}).encode()
        plain = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await self({"type": "http.response.start", "status": status, "headers": [*plain, *headers]})
        await self({"type": "http.response.body", "body": body})


def _request_id(given: str) -> str:
    """The caller's own id where it is a short plain word, else a new one: it ends up in logs and headers."""
    return given if _FIT_ID.fullmatch(given) else uuid.uuid4().hex


def _replay(messages: Sequence[Message], receive: Receive) -> Receive:
    """A receive that gives out what was already read, and then what follows."""
    waiting = iter(messages)

    async def next_message() -> Message:
        try:
            return next(waiting)
        except StopIteration:
            return await receive()

    return next_message
