"""A judge behind any endpoint that speaks the chat API of OpenAI: a provider, vLLM, llama.cpp, Ollama, ...

Requests run side by side on one event loop of a thread of their own, so that all callers share one pool of
connections, one limit and one patience. What the endpoint calls too many (429, or 503 with Retry-After) is
asked again here, since only here its Retry-After is known; every other failure is reported at once, and the
service decides whether to try again.
"""

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import Field, field_validator

from antiphon.errors import UserError
from antiphon.secrets import read_secret
from antiphon.settings import Settings
from reward_service.judging import chat_wire
from reward_service.judging.backend import Backend, Question, Reply
from reward_service.judging.chat_wire import Prices, TokensField
from reward_service.judging.patience import Gate, retry_after_s
from reward_service.types import Status, Usage

CLOSE_S = 5.0
"""For the thread to end."""


class OpenAI(Backend):
    """POSTs every question to `base_url`/chat/completions."""

    name = "openai"
    is_concurrent = True

    class Config(Settings):
        base_url: str
        """Up to and without /chat/completions: "https://api.openai.com/v1", "http://127.0.0.1:8001/v1"."""
        model: str = Field(min_length=1)
        """As the endpoint calls it."""
        api_key_env: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
        """The environment variable that holds the key, read where the judge runs; recipes never hold secrets.
        null: the endpoint asks for none."""
        max_concurrent: int = Field(16, ge=1)
        """Requests under way at once, over all callers."""
        timeout_s: float = Field(30.0, gt=0.0)
        """For one request from first to last byte."""
        price_read: float = Field(0.0, ge=0.0, allow_inf_nan=False)
        """Money per million tokens that the judge reads, in the currency of the budget."""
        price_written: float = Field(0.0, ge=0.0, allow_inf_nan=False)
        """Money per million tokens that the judge writes, those of its hidden reasoning among them."""
        tokens_field: TokensField = "max_tokens"
        """Where the bound on a reply's length is written; newer models of OpenAI want the other."""
        extra: dict[str, Any] = Field(default_factory=dict)
        """More fields of the request body, such as reasoning_effort: low; null takes one of ours out, as in
        seed: null for an endpoint that knows no seeds."""

        @field_validator("base_url")
        @classmethod
        def _is_an_address(cls, url: str) -> str:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("must begin with http:// or https:// and name a host")
            if "@" in parts.netloc:
                raise ValueError("must hold no user and password; name the key's variable in api_key_env")
            return url.rstrip("/")

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._prices = Prices(read=config.price_read, written=config.price_written)
        self._gate = Gate()
        self._key = ""
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """
        Raises:
            UserError: the variable with the key is not set.
        """
        if self._loop is not None:
            return
        self._key = self._read_key()
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        # The deadline is ours, because those of httpx count from byte to byte.
        limits = httpx.Limits(max_connections=self.config.max_concurrent)
        self._http = httpx.AsyncClient(headers=headers, timeout=None, limits=limits)
        self._slots = asyncio.Semaphore(self.config.max_concurrent)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="judge", daemon=True)
        self._thread.start()

    def close(self) -> None:
        if self._loop is None:
            return
        loop, self._loop = self._loop, None
        asyncio.run_coroutine_threadsafe(self._http.aclose(), loop).result(CLOSE_S)
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(CLOSE_S)
        loop.close()

    def ask(self, questions: Sequence[Question], deadline: float) -> list[Reply]:
        """
        Raises:
            RuntimeError: `start` has not run.
        """
        if self._loop is None:
            raise RuntimeError("start the openai backend before asking it")
        asked = asyncio.run_coroutine_threadsafe(self._ask_all(questions, deadline), self._loop)
        try:
            return asked.result()
        except BaseException:
            asked.cancel()
            raise

    def estimate(self, question: Question) -> Usage:
        num_written = 1 if question.options else question.max_new_tokens
        num_read = super().estimate(question).num_tokens - question.max_new_tokens
        return self._prices.of(num_read, num_written)

    async def _ask_all(self, questions: Sequence[Question], deadline: float) -> list[Reply]:
        return await asyncio.gather(*(self._ask_one(question, deadline) for question in questions))

    async def _ask_one(self, question: Question, deadline: float) -> Reply:
        start, sent = time.monotonic(), _Count()
        try:
            async with asyncio.timeout(max(0.0, deadline - start)), self._slots:
                reply = await self._insist(question, deadline, sent)
        except TimeoutError:
            message = "the call's deadline passed before the judge replied"
            reply = Reply(status=Status.TIMEOUT, message=message)
        usage = replace(reply.usage, num_requests=sent.value)
        message = reply.message.replace(self._key, "***") if self._key else reply.message
        return replace(reply, usage=usage, message=message, latency_s=time.monotonic() - start)

    async def _insist(self, question: Question, deadline: float, sent: "_Count") -> Reply:
        """Asks until the endpoint does anything but ask for patience."""
        while True:
            while (pause_s := self._gate.pause_s()) > 0.0:
                if time.monotonic() + pause_s >= deadline:
                    message = f"the endpoint wants no requests for {pause_s:.1f} s, past the call's deadline"
                    return Reply(status=Status.TIMEOUT, message=message)
                await asyncio.sleep(pause_s)
            sent.value += 1
            reply = await self._post(question)
            if reply is not None:
                return reply

    async def _post(self, question: Question) -> Reply | None:
        """One request; None where the endpoint asks for patience, of which the gate then knows."""
        fields = chat_wire.body(question, self.config.model, self.config.tokens_field, self.config.extra)
        try:
            async with asyncio.timeout(self.config.timeout_s):
                answer = await self._http.post(f"{self.config.base_url}/chat/completions", json=fields)
        except TimeoutError:
            message = f"the judge did not reply within {self.config.timeout_s:g} s"
            return Reply(status=Status.TIMEOUT, message=message)
        except httpx.HTTPError as error:
            message = f"the endpoint cannot be reached: {type(error).__name__} {error}"
            return Reply(status=Status.ERROR, message=message)
        return self._read(question, answer)

    def _read(self, question: Question, answer: httpx.Response) -> Reply | None:
        pause = answer.headers.get("Retry-After")
        if answer.status_code == 429 or (answer.status_code == 503 and pause is not None):
            self._gate.refused(retry_after_s(pause))
            return None
        if answer.status_code != 200:
            return chat_wire.refusal(answer.status_code, answer.text)
        self._gate.served()
        return chat_wire.read(answer.content, question, self._prices, self.estimate(question))

    def _read_key(self) -> str:
        name = self.config.api_key_env
        key = (read_secret(name) if name else None) or ""
        if name and not key:
            raise UserError(
                f"the judge at {self.config.base_url} needs a key, and the variable {name} is not set",
                remedy=f"export {name}=… before the service is started, or set api_key_env: null",
            )
        return key


class _Count:
    """Requests sent for one question; survives the cancellation of what counts."""

    value = 0
