"""vLLM as an engine: paged keys and values, on GPU or CPU, in this process.

Called by the rollout worker through `Engine`. Needs the extra `vllm`; see docs/engines.md. Weights are
written into vLLM's own tensors (vllm_tensors.py), whose digest is what `load` echoes.

    request --add--> vLLM: schedule, pass, draw --tokens and log-probs of a step--> Drawing --> completion
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from transformers import PreTrainedModel

from antiphon.cpu_linear import linear
from antiphon.errors import UserError
from rollout.engines.base import Engine
from rollout.engines.vllm_start import INSTALL, installed, refusals, require_installed, start
from rollout.engines.vllm_tensors import REMEDY, named_tensors, require_same_tensors, turned_names
from rollout.types import NO_VERSION, Completion, Request, Sampling, several
from rollout.weights import Weights, apply

LEAST_TEMPERATURE = 0.01
"""Above 0; vLLM takes a lower one for this one."""
TRIAL_TEXTS = ((1, 0, 1, 1, 0), (0, 1))
NUM_TRIAL_TOKENS = 4


class Drawing:
    """A completion under way."""

    def __init__(self, ticket: int, request: Request, stop_token_ids: tuple[int, ...]) -> None:
        self.ticket = ticket
        self.request = request
        self.stop_token_ids = stop_token_ids
        self.token_ids: list[int] = []
        self.logprobs: list[float] = []
        self.policy_versions: list[int] = []

    def take(self, token_ids: Sequence[int], logprobs: Sequence[float], policy_version: int) -> None:
        """What a step has drawn."""
        is_greedy = self.request.sampling.temperature == 0
        self.token_ids += token_ids
        # The distribution that a greedy token is drawn from has but one token.
        self.logprobs += [0.0] * len(logprobs) if is_greedy else logprobs
        self.policy_versions += [policy_version] * len(token_ids)

    def completion(self) -> Completion:
        return Completion(
            token_ids=tuple(self.token_ids),
            logprobs=tuple(self.logprobs),
            finish_reason="stop" if self.token_ids[-1] in self.stop_token_ids else "length",
            policy_version_min=min(self.policy_versions),
            policy_version_max=max(self.policy_versions),
            policy_versions=several(self.policy_versions),
        )


class VllmEngine(Engine):
    """vLLM in the process of the actor, for models and lengths that fill a GPU; runs on CPUs too.

    Log-probabilities are those of the distribution that was drawn from (temperature, top_k, top_p). Keys and
    values, also those of prompts that are shared, are computed anew after new weights, so that every token
    comes from exactly one policy.
    """

    name = "vllm"

    class Config(Engine.Config):
        num_slots: int = Field(64, ge=1)
        """Completions under way at once."""
        max_context: int | None = Field(None, ge=1)
        """The most tokens of a prompt and its completion together; null: what the model allows. Memory for at
        least one such sequence must be there."""
        max_prefill_tokens: int = Field(8192, ge=1)
        """Prompt tokens in one pass; raised to max_context where that is more."""
        kv_cache_bytes: int | None = Field(None, ge=1)
        """Memory for keys and values. null: 1 GiB on a CPU, on a GPU what memory_share leaves."""
        memory_share: float = Field(0.8, gt=0.0, le=1.0)
        """Share of the GPU that weights, keys, values and passes may take; lower it where a learner lives on
        the same GPU. Unused on a CPU."""
        is_sharing_prompts: bool = True
        """Keep keys and values of whole blocks of prompt tokens (16 tokens on a GPU, 128 on a CPU) for the
        other completions of the group, and for later prompts that begin alike, until new weights come."""
        is_eager: bool = False
        """No CUDA graphs and no compilation: starts sooner, decodes slower. A CPU is always eager."""

    def __init__(self, config: Config, model: PreTrainedModel | None, eos_token_ids: tuple[int, ...]) -> None:
        """
        Raises:
            UserError: vLLM is not installed, cannot play this type of model, keeps it in a form that new
                weights cannot be written into, or answers otherwise than the model itself.
        """
        super().__init__(config, None, eos_token_ids)
        if model is None:
            raise ValueError("the vllm engine needs a model")
        own = model.config.get_text_config()
        context = config.max_context or getattr(own, "max_position_embeddings", None)
        self._llm = start(
            model,
            max_num_seqs=config.num_slots,
            max_model_len=context,
            max_num_batched_tokens=max(config.max_prefill_tokens, context or 0),
            enable_prefix_caching=config.is_sharing_prompts,
            kv_cache_memory_bytes=config.kv_cache_bytes,
            gpu_memory_utilization=config.memory_share,
            enforce_eager=config.is_eager,
        )
        self._num_words = own.vocab_size
        self._drawings: dict[str, Drawing] = {}
        self._tensors = self._take_over(model)
        self._require_same_answer(model)

    @property
    def max_context(self) -> int | None:
        context: int = self._llm.model_config.max_model_len
        return context

    @classmethod
    def check(cls, sampling: Sampling) -> None:
        """
        Raises:
            UserError: vLLM is not installed, or cannot draw like this.
        """
        require_installed()
        _require_playable(sampling)

    @classmethod
    def needs(cls) -> dict[str, str]:
        return {"package": installed() or INSTALL, "an actor with a GPU": "uses it whole, see memory_share"}

    def load(self, weights: Weights) -> str:
        echoed = apply(weights, self._tensors)
        self.policy_version = weights.version
        return echoed

    @property
    def has_work(self) -> bool:
        return bool(self._drawings)

    def step(self) -> list[tuple[int, Completion]]:
        """
        Raises:
            FloatingPointError: the log-probability of a token is not finite; work under way is dropped.
        """
        if not self._drawings:
            return []
        # What vLLM draws for requests of others must not move the random numbers of this process.
        with torch.random.fork_rng(devices=[]):
            outputs = self._llm.step()
        ended = [drawing for output in outputs if (drawing := self._take(output)) is not None]
        return [(drawing.ticket, drawing.completion()) for drawing in ended]

    def clear(self) -> None:
        self._llm.abort_request(list(self._drawings))
        self._drawings.clear()

    def forget(self) -> None:
        self._llm.reset_prefix_cache(reset_running_requests=True)

    def _enqueue(self, ticket: int, request: Request) -> None:
        """
        Raises:
            UserError: vLLM cannot draw like this.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        sampling = request.sampling
        _require_playable(sampling)
        stops = self.stop_token_ids(request)
        parameters = SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            seed=request.seed,
            max_tokens=sampling.max_new_tokens,
            stop_token_ids=[token for token in stops if token < self._num_words],
            ignore_eos=True,
            logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        [prompt] = self._llm.renderer.render_cmpl([{"prompt_token_ids": list(request.token_ids)}])
        self._llm.add_request(str(ticket), prompt, parameters)
        self._drawings[str(ticket)] = Drawing(ticket, request, stops)

    def _take(self, output: Any) -> Drawing | None:
        """The drawing to which the output of a step belongs, if it ended with it."""
        [drawn] = output.outputs
        logprobs = drawn.logprobs.logprobs if drawn.token_ids else []
        if not all(map(math.isfinite, logprobs)):
            self.clear()
            raise FloatingPointError(
                f"the logits of policy version {self.policy_version} are not finite; "
                "work under way is dropped"
            )
        drawing = self._drawings[output.request_id]
        drawing.take(drawn.token_ids, logprobs, self.policy_version)
        return self._drawings.pop(output.request_id) if output.finished else None

    def _take_over(self, model: PreTrainedModel) -> dict[str, Tensor]:
        """Views of vLLM's tensors, which are found to hold the weights of the model."""
        [inner] = self._llm.apply_model(lambda own: own)
        for module in inner.modules():
            if hasattr(module, "cpu_linear"):
                # As it lies in memory: packed copies would not follow new weights.
                module.cpu_linear = linear
        views = named_tensors(inner, turned_names(model))
        require_same_tensors(views, model)
        return views

    @torch.no_grad()
    def _require_same_answer(self, model: PreTrainedModel) -> None:
        """
        Raises:
            UserError: log-probabilities differ from the model's by more than rounding.
        """
        self._policy_version = 0
        sampling = Sampling(max_new_tokens=NUM_TRIAL_TOKENS)
        requests = [Request(token_ids=text, sampling=sampling, seed=0) for text in TRIAL_TEXTS]
        with refusals(model):
            completions = self.generate(requests)
        self._policy_version = NO_VERSION
        bound = min(2**13 * torch.finfo(model.dtype).eps, 1.0)
        for request, completion in zip(requests, completions, strict=True):
            text = torch.tensor([request.token_ids + completion.token_ids], device=model.device)
            start = len(request.token_ids) - 1
            logits = model(input_ids=text[:, :-1], use_cache=False).logits[0, start:].float()
            own = logits.log_softmax(-1).gather(1, text[0, start + 1 :, None]).squeeze(1).cpu()
            difference = float((own - torch.tensor(completion.logprobs)).abs().max())
            if not difference <= bound:
                raise UserError(
                    f"a model of type {model.config.model_type!r} answers otherwise in vLLM than alone: "
                    f"log-probabilities differ by {difference:.2g}",
                    remedy=REMEDY,
                )


def _require_playable(sampling: Sampling) -> None:
    wrong = {
        "beta": sampling.beta > 0,
        "epsilon": sampling.epsilon > 0,
        "temperature": 0 < sampling.temperature < LEAST_TEMPERATURE,
    }
    for name in (name for name, is_wrong in wrong.items() if is_wrong):
        raise UserError(
            f"sampling.{name} is {getattr(sampling, name)}, which the vllm engine cannot draw with",
            remedy="set rollout.engine.name to torch, or for vllm beta and epsilon to 0 and the temperature "
            f"to 0 or at least {LEAST_TEMPERATURE}",
        )
