"""A judge in this process: a Hugging Face model, played by the same engines as the rollouts.

Reached by the reward service by import path, as the judge backend `local`: the service must load without it.
It knows texts and tokens; scales and samples are the component's.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from antiphon import plugins
from antiphon.errors import UserError
from antiphon.settings import Settings
from reward_service.judging.backend import Backend, Question, Reply
from reward_service.types import Status, Usage
from rollout.engines.base import Engine
from rollout.engines.passes import prefill, read
from rollout.judge_reader import Reader, TokenIds
from rollout.models import ModelConfig, eos_token_ids, load_model, load_tokenizer
from rollout.types import Completion, Request, Sampling

LATE = Reply(status=Status.TIMEOUT, message="the call's deadline passed before the judge replied")


class LocalBackend(Backend):
    """Replies are drawn by an engine, or the probabilities of the options are read off one pass."""

    name = "local"

    class Config(Settings):
        model: ModelConfig
        """The judge; as under `model:` in a recipe."""
        engine: dict[str, Any] = Field(default_factory=lambda: {"name": "torch"})
        """`name:` and options of the engine, see rollout/engines."""
        format: Literal["chat", "plain"] = "chat"
        """chat: the question goes into the tokenizer's chat template. plain: for a model without one."""
        device: str = "cpu"
        """Where the model lies: cpu, cuda, cuda:1, ..."""
        max_prefill_tokens: int = Field(4096, ge=1)
        """With answer `expected`: tokens in one pass, padding included; bounds its memory."""

    config: Config

    def __init__(self, config: Config) -> None:
        """
        Raises:
            UserError: no such engine, or a wrong option of it.
        """
        super().__init__(config)
        engine = dict(config.engine)
        if engine.get("name") == "torch" and config.device == "cpu":
            # Not on the GPU of the rollouts or the learner beside it.
            engine.setdefault("device", "cpu")
        self._engine_class, self._engine_config = plugins.configure(
            Engine, "rollout.engines", engine, "backend.engine"
        )

    def start(self) -> None:
        """
        Raises:
            UserError: no such model or device, or a tokenizer without a chat template.
        """
        self._reader = Reader(load_tokenizer(self.config.model), self.config.format)
        try:
            self._model = load_model(self.config.model).to(torch.device(self.config.device))  # type: ignore[arg-type]
        except (RuntimeError, AssertionError) as error:
            raise UserError(
                f"backend.device is {self.config.device!r}: {str(error).splitlines()[0]}",
                remedy="set it to cpu, or give the judge a GPU",
            ) from error
        stops = eos_token_ids(self._reader.tokenizer, self._model)
        self._engine: Engine = self._engine_class(self._engine_config, self._model, stops)
        self._engine.policy_version = 0

    def check_options(self, cue: str, options: Sequence[str]) -> None:
        self._reader.options(cue, options)

    def ask(self, questions: Sequence[Question], deadline: float) -> list[Reply]:
        start = time.monotonic()
        prompts = [self._reader.read(question) for question in questions]
        replies = {n: self._refusal(q, prompts[n]) for n, q in enumerate(questions)}
        fitting = [n for n, refusal in replies.items() if refusal is None]
        drawn = {n: _request(questions[n], prompts[n]) for n in fitting if not questions[n].options}
        weighed = {n: prompts[n] for n in fitting if questions[n].options}
        replies |= self._draw(drawn, deadline)
        replies |= self._weigh(weighed, questions, deadline)
        latency_s = time.monotonic() - start
        return [replace(replies[n] or LATE, latency_s=latency_s) for n in range(len(questions))]

    def _refusal(self, question: Question, prompt: TokenIds) -> Reply | None:
        """Why a question cannot be asked; None where it can."""
        room = self._engine.max_context
        needed = len(prompt) + (1 if question.options else question.max_new_tokens)
        if room is None or needed <= room:
            return None
        message = f"the question needs {needed} positions, the judge's context has {room}"
        return Reply(status=Status.INVALID_INPUT, message=message)

    def _draw(self, requests: Mapping[int, Request], deadline: float) -> dict[int, Reply]:
        """What the judge says; what is not said in time is left out."""
        engine, replies = self._engine, {}
        try:
            numbers = {engine.submit(request): number for number, request in requests.items()}
            while engine.has_work and time.monotonic() < deadline:
                for ticket, completion in engine.step():
                    number = numbers[ticket]
                    replies[number] = self._said(requests[number], completion)
        finally:
            engine.clear()
        return replies

    def _said(self, request: Request, completion: Completion) -> Reply:
        usage = Usage(num_requests=1, num_tokens=len(request.token_ids) + len(completion.token_ids))
        if completion.finish_reason == "length":
            message = "the judge's reply was cut off; raise max_new_tokens, or set answer: expected"
            return Reply(status=Status.UNPARSEABLE, message=message, usage=usage)
        return Reply(text=self._reader.decode(completion.token_ids), usage=usage)

    @torch.no_grad()
    def _weigh(
        self, prompts: Mapping[int, TokenIds], questions: Sequence[Question], deadline: float
    ) -> dict[int, Reply]:
        """The probabilities of the options after the cue; what is not read in time is left out."""
        logits: dict[TokenIds, Tensor] = {}
        reader = partial(read, self._model)
        for batch in prefill(reader, sorted(set(prompts.values())), self.config.max_prefill_tokens):
            logits |= dict(zip(batch.prompts, batch.logits, strict=True))
            if time.monotonic() >= deadline:
                break
        return {
            number: self._weighed(questions[number], prompt, logits[prompt])
            for number, prompt in prompts.items()
            if prompt in logits
        }

    def _weighed(self, question: Question, prompt: TokenIds, logits: Tensor) -> Reply:
        """softmax over the whole vocabulary, read at the options; `logits` is [V]."""
        _, options = self._reader.options(question.cue, question.options)
        shares = logits.float().softmax(-1)[torch.tensor(options, device=logits.device)]
        usage = Usage(num_requests=1, num_tokens=len(prompt))
        return Reply(shares=tuple(shares.tolist()), usage=usage)


def _request(question: Question, prompt: TokenIds) -> Request:
    sampling = Sampling(temperature=question.temperature, max_new_tokens=question.max_new_tokens)
    return Request(token_ids=prompt, sampling=sampling, seed=question.seed)
