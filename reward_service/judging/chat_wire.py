"""The wire of OpenAI-compatible chat endpoints: a question as a request body, and an answer as a reply.

Pure functions; called by the openai backend, which does the sending. Endpoints differ in which fields they
take: `extra` adds some, and a null in it takes one out.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from reward_service.judging.backend import Question, Reply
from reward_service.types import Status, Usage

TOP_LOGPROBS = 20
"""The most that endpoints give."""
SEED_BITS = 31
NUM_SHOWN = 200
"""Characters of a refusal that a message shows."""
TOO_LONG = ("context_length_exceeded", "maximum context length", "string_above_max_length")
"""How endpoints call a question that does not fit into the judge's context."""

TokensField = Literal["max_tokens", "max_completion_tokens"]


class _Message(BaseModel):
    content: str | None = None


class _Token(BaseModel):
    token: str
    logprob: float


class _Place(BaseModel):
    top_logprobs: list[_Token] = []


class _Logprobs(BaseModel):
    content: list[_Place] | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Usage(BaseModel):
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(0, ge=0)


class _Answer(BaseModel):
    """What is read of a chat completion; endpoints add much more."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class Prices(BaseModel):
    """Money per million tokens."""

    read: float = 0.0
    written: float = 0.0

    def of(self, num_read: int, num_written: int) -> Usage:
        """What a request with so many tokens cost."""
        money = (self.read * num_read + self.written * num_written) / 1e6
        return Usage(num_requests=1, num_tokens=num_read + num_written, money=money)


def body(
    question: Question, model: str, tokens_field: TokensField, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """The JSON body of POST /chat/completions."""
    roles = (("system", question.system), ("user", question.user))
    fields: dict[str, Any] = {
        "model": model,
        "messages": [{"role": role, "content": text} for role, text in roles],
        "temperature": question.temperature,
        "seed": question.seed % 2**SEED_BITS,
        tokens_field: 1 if question.options else question.max_new_tokens,
    }
    if question.options:
        fields |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
    return {key: value for key, value in (fields | dict(extra)).items() if value is not None}


def read(content: bytes, question: Question, prices: Prices, estimate: Usage) -> Reply:
    """The reply in a 200 answer.

    Args:
        estimate: what the request is taken to have cost where the endpoint does not say.
    """
    try:
        answer = _Answer.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        problem = f"the endpoint's answer is no chat completion: {where} {first['msg']}".replace("  ", " ")
        return Reply(status=Status.ERROR, message=problem, usage=Usage(num_requests=1))
    used = answer.usage
    usage = estimate if used is None else prices.of(used.prompt_tokens, used.completion_tokens)
    choice = answer.choices[0]
    return _weighed(choice, question.options, usage) if question.options else _said(choice, usage)


def refusal(status_code: int, text: str) -> Reply:
    """The reply in any other answer."""
    message = f"the endpoint answers HTTP {status_code}: {text[:NUM_SHOWN]}"
    is_too_long = status_code == 413 or (status_code == 400 and any(word in text for word in TOO_LONG))
    status = Status.INVALID_INPUT if is_too_long else Status.ERROR
    if status_code in (408, 504):
        status = Status.TIMEOUT
    return Reply(status=status, message=message, usage=Usage(num_requests=1))


def _said(choice: _Choice, usage: Usage) -> Reply:
    problem = ""
    if choice.finish_reason == "length":
        problem = "the judge's reply was cut off; raise max_new_tokens"
    elif choice.finish_reason == "content_filter":
        problem = "the endpoint's filter took the judge's reply away"
    elif choice.message.content is None:
        problem = "the judge refuses to reply"
    if problem:
        return Reply(status=Status.UNPARSEABLE, message=problem, usage=usage)
    return Reply(text=choice.message.content or "", usage=usage)


def _weighed(choice: _Choice, options: tuple[str, ...], usage: Usage) -> Reply:
    """The probability of each option as the first token, blanks around it not counted."""
    places = (choice.logprobs.content if choice.logprobs else None) or []
    if not places or not places[0].top_logprobs:
        problem = "the endpoint gives no logprobs, which answer `expected` needs"
        return Reply(status=Status.ERROR, message=problem, usage=usage)
    found = [(t.token.strip(), math.exp(min(0.0, t.logprob))) for t in places[0].top_logprobs]
    shares = tuple(math.fsum(p for token, p in found if token == option) for option in options)
    return Reply(shares=shares, usage=usage)
