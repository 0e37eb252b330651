"""The built-in engine: continuous batching of any causal language model of transformers, on CPU or GPU.

Called by the rollout worker through `Engine`. A step is either the prefill of requests that wait for a free
slot, or one token for every slot in use; a slot is refilled in the step after its completion has ended.

    waiting --prefill--> slot (row of the table, row of the cache) --decode, decode, ...--> completion
"""

from collections import deque
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import PreTrainedModel

from antiphon.cpu_linear import speed_up
from antiphon.native.kernels import kernels_for
from rollout.engines.base import Engine
from rollout.engines.cuda_graphs import CudaGraphs
from rollout.engines.device import arithmetic_of, device_for
from rollout.engines.drawing import draw
from rollout.engines.kv_cache import SlotCache
from rollout.engines.native_decoder import best_decoder
from rollout.engines.passes import Said, TokenIds, decode
from rollout.engines.prompt_reader import PromptReader
from rollout.engines.slots import Running, SlotTable
from rollout.engines.static_step import Drawn, Inputs, StaticStep
from rollout.engines.support import require_same_answer, require_same_states, require_supported
from rollout.q_function import QFunction
from rollout.types import Completion, Request


class TorchEngine(Engine):
    """Continuous batching over slots with pre-allocated keys and values.

    Exact where it matters: positions are explicit, masks come from lengths, log-probabilities are read off
    the distribution that was drawn from, in float32, and a model's generation_config is never looked at.
    Keys and values of completions under way are computed anew after new weights, so that every token comes
    from exactly one policy, unless `keeps_cache` trades that for speed.
    """

    name = "torch"
    can_play_q = True
    can_update_in_flight = True

    class Config(Engine.Config):
        num_slots: int = Field(64, ge=1)
        """Completions under way at once. More use the hardware better, until memory for their keys and values
        (slots x longest sequence) or, on a CPU, its caches run out."""
        max_prefill_tokens: int | None = Field(None, ge=1)
        """Prompt tokens in one pass, padding included; bounds the memory of prefill. null: 1024 on a CPU,
        whose caches hold no more, else 4096."""
        min_refill: int | None = Field(None, ge=1)
        """Free slots that are waited for before prompts are prefilled into them, while others decode. A pass
        over one prompt costs about as much as one over four. null: an eighth of the slots."""
        device: Literal["auto", "cpu", "cuda"] = "auto"
        """Where the model lies; auto: on a GPU where the process has one. Ray shows an actor those that it
        has reserved (cluster.gpus_per_actor), and no others."""
        is_native: bool = True
        """Whether a CPU decodes by kernels in C, built at the first start by the compiler of the machine
        (antiphon/native/), where the model is one that they know. Without a compiler, or where this is false,
        torch computes the same, more slowly; only rounding differs."""
        is_graphed: bool | None = None
        """Whether a step of decoding runs over fixed memory in a few sizes, each captured on a GPU as a CUDA
        graph, where the model is a Llama, Mistral, Qwen2 or Qwen3. null: on a GPU. On a CPU true computes the
        same without capture and without kernels in C: slower, for tests. More graphs take more memory."""
        keeps_cache: bool = False
        """When new weights come midway, keep the keys and values that older ones computed. Spares a pass over
        all that is under way; log-probabilities are still those of what was drawn from, but that is no longer
        the distribution of any one policy version."""

    def __init__(self, config: Config, model: PreTrainedModel | None, eos_token_ids: tuple[int, ...]) -> None:
        """
        Raises:
            UserError: the model keeps a state that slots cannot hold (sliding window, recurrence, ...), or
                answers otherwise through slots than alone.
        """
        super().__init__(config, model, eos_token_ids)
        if model is None:
            raise ValueError("the torch engine needs a model")
        require_supported(model)
        self._model = model.eval()
        nn.Module.to(model, device_for(config.device, model.device))
        speed_up(model)
        on_cpu = model.device.type == "cpu"
        on_cuda = model.device.type == "cuda"
        is_graphed = on_cuda if config.is_graphed is None else config.is_graphed
        is_native = config.is_native and not is_graphed
        self._kernels = kernels_for(model.dtype, model.device.type) if is_native else None
        self._fused = best_decoder(model, self._kernels)
        require_same_answer(model, self._fused)
        self._static: StaticStep | None = None
        if is_graphed and self._fused is not None:
            capture = CudaGraphs() if on_cuda else None
            self._static = StaticStep(self._fused, config.num_slots, model.device, capture)
        self._settings = config
        self._waiting: deque[tuple[int, Request]] = deque()
        self._table = SlotTable(config.num_slots, model.device)
        self._cache = SlotCache(config.num_slots)
        self._is_stale = False
        self._reader = PromptReader(
            model, self._fused, config.max_prefill_tokens or (1024 if on_cpu else 4096)
        )
        self._min_refill = min(config.min_refill or max(1, config.num_slots // 8), config.num_slots)

    @property
    def has_work(self) -> bool:
        return bool(self._waiting) or self._table.num_running > 0

    @property
    def arithmetic(self) -> str:
        return arithmetic_of(self._model.device, is_native=self._kernels is not None)

    def follow(self, guide: QFunction) -> None:
        """
        Raises:
            UserError: the model's last hidden states are not what its unembedding sees.
        """
        super().follow(guide)
        guide.to(self._model.device)
        require_same_states(self._model, self._fused)
        speed_up(guide)
        self._reader.reads_states = True

    @torch.no_grad()
    def step(self) -> list[tuple[int, Completion]]:
        if not self.has_work:
            return []
        if self._is_stale:
            self._recompute()
        if self._is_time_to_admit():
            rows, said = self._admit()
            return self._record(rows, self._draw(rows, said))
        return self._record(*self._decode())

    def clear(self) -> None:
        self._waiting.clear()
        self._table.clear()
        self._reader.forget()

    def forget(self) -> None:
        self._reader.forget()
        self._is_stale = not self._settings.keeps_cache
        if self._fused is not None:
            self._fused.forget()

    def _enqueue(self, ticket: int, request: Request) -> None:
        """
        Raises:
            ValueError: β weighs a Q function that is not there.
        """
        if request.sampling.beta > 0 and self.guide is None:
            raise ValueError(f"sampling.beta is {request.sampling.beta}, and there is no Q function to play")
        self._waiting.append((ticket, request))

    def _is_time_to_admit(self) -> bool:
        """Whether somebody waits and enough slots are free, or as many as are wanted, or all."""
        num_wanted = min(len(self._waiting), self._min_refill)
        return num_wanted > 0 and self._table.num_free >= num_wanted

    def _admit(self) -> tuple[Tensor, Said]:
        """Starts as many waiting requests as there are free slots; rows [n] and what comes next in each."""
        num_new = min(len(self._waiting), self._table.num_free)
        new = [self._waiting.popleft() for _ in range(num_new)]
        rows = self._table.start([self._running(ticket, request) for ticket, request in new])
        longest = max(len(r.token_ids) + r.sampling.max_new_tokens for _, r in new)
        said = self._fill(rows, [request.token_ids for _, request in new], longest)
        return self._index(rows), said

    def _running(self, ticket: int, request: Request) -> Running:
        return Running(
            ticket=ticket,
            request=request,
            stop_token_ids=self.stop_token_ids(request),
        )

    def _recompute(self) -> None:
        """Computes the keys and values of what is under way from the weights that are now in use."""
        rows = self._table.rows()
        if rows:
            self._fill(rows, [self._table.sequence(row) for row in rows], self._cache.capacity)
        self._is_stale = False

    def _fill(self, rows: Sequence[int], sequences: Sequence[TokenIds], num_positions: int) -> Said:
        """Has the sequences read into their rows; returns what comes after each, n rows."""
        head = self._waiting[0][1].token_ids if self._waiting else None
        return self._reader.fill(self._cache, rows, sequences, num_positions, head)

    def _decode(self) -> tuple[Tensor, Drawn]:
        """Runs the last token of every slot in use; rows [n] and what is drawn for each."""
        table = self._table
        sources, targets = table.compact()
        if sources:
            length = int(table["position"][targets].max())
            self._cache.move(self._index(sources), self._index(targets), length)
        rows = torch.arange(table.num_rows, device=self._model.device)
        static = self._static
        if static is not None and table.is_plain:
            drawn = static.drawn(self._cache, self._inputs(rows), table.reach)
        elif static is not None:
            drawn = self._draw(rows, static.said(self._cache, self._inputs(rows), table.reach))
        else:
            drawn = self._draw(rows, self._say(table["last_token"][rows], table["position"][rows]))
        table.advance()
        return rows, drawn

    def _say(self, last: Tensor, position: Tensor) -> Said:
        if self._fused is not None:
            return self._fused(self._cache, last, position)
        return decode(self._model, self._cache, last, position, self.guide is not None)

    def _inputs(self, rows: Tensor) -> Inputs:
        table = self._table
        return Inputs(
            token=table["last_token"][rows],
            position=table["position"][rows],
            temperature=table["temperature"][rows],
            uniform=table.next_uniform(rows),
        )

    def _draw(self, rows: Tensor, said: Said) -> Drawn:
        """A token for each of the rows."""
        controls = self._table.controls(rows)
        guide = self.guide if bool((controls.beta > 0).any()) else None
        advantages = None if guide is None else guide.advantages(said.states)
        return draw(said.logits, advantages, controls, self._table.next_uniform(rows), self._kernels)

    def _record(self, rows: Tensor, drawn: Drawn) -> list[tuple[int, Completion]]:
        """The completions that end with these tokens."""
        table, (token, logprob) = self._table, drawn
        has_ended, has_stopped = table.record(rows, token, logprob, self.policy_version)
        # All that is asked of the device in one word: a GPU stands still for each.
        told = torch.stack((rows, logprob.isfinite(), has_ended, has_stopped)).tolist()
        if not all(told[1]):
            self._refuse()
        return [table.end(row, bool(stopped)) for row, _, ended, stopped in zip(*told, strict=True) if ended]

    def _refuse(self) -> None:
        # What is not finite would linger in the cache, where even masked positions spoil a sum.
        self.clear()
        self._cache = SlotCache(self._settings.num_slots)
        raise FloatingPointError(
            f"the logits{' and Q' if self.guide is not None else ''} of policy version {self.policy_version} "
            "are not finite; work under way is dropped"
        )

    def _index(self, numbers: Sequence[int] | Sequence[tuple[int, int]]) -> Tensor:
        return torch.tensor(numbers, device=self._model.device)
