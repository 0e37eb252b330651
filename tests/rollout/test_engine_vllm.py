"""The vllm engine against the plainest computation of the same thing; skipped where vLLM is not installed."""

import gc
import importlib.util
import os
import random
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from antiphon.errors import UserError
from rollout.engines.sampling import distribution, truncate
from rollout.engines.vllm_engine import VllmEngine
from rollout.types import Completion, Request, Sampling
from rollout.weights import digest, pack
from tests.rollout.fakes_engines import (
    EOS,
    NUM_WORDS,
    logits_of,
    logprobs_of,
    requests_of_all_lengths,
    tiny_model,
)

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed here: see docs/engines.md"
)
KINDS = ("wide-qwen2", "wide-qwen3", "wide-gpt2")


def engine_for(model: PreTrainedModel) -> VllmEngine:
    engine = VllmEngine(VllmEngine.Config(num_slots=4, kv_cache_bytes=2**24), model, (EOS,))
    engine.policy_version = 0
    return engine


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return tiny_model("wide-llama")


@pytest.fixture(scope="module")
def engine_once(model: PreTrainedModel) -> VllmEngine:
    return engine_for(model)


@pytest.fixture
def engine(engine_once: VllmEngine, model: PreTrainedModel) -> Iterator[VllmEngine]:
    """One engine for all, with the weights of `model` as version 0."""
    engine_once.clear()
    engine_once.load(pack(0, model))
    yield engine_once
    engine_once.clear()


def off_by(model: PreTrainedModel, requests: list[Request], completions: list[Completion]) -> float:
    """The largest difference between a logprob of the engine and the plain one."""
    pairs = zip(requests, completions, strict=True)
    return max(float((torch.tensor(c.logprobs) - logprobs_of(model, r, c)).abs().max()) for r, c in pairs)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.5])
def test_logprobs_are_those_of_softmax_of_logits_over_temperature(
    engine: VllmEngine, model: PreTrainedModel, temperature: float
) -> None:
    """S1, S10. Mutation: without logprobs_mode they are those before the temperature; off by 2.7."""
    requests = requests_of_all_lengths(25, temperature=temperature)
    assert off_by(model, requests, engine.generate(requests)) < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_fused_turned_and_padded_tensors_follow_new_weights(kind: str) -> None:
    """Biases of queries, norms of heads, matrices the other way round: new weights reach each of them.

    Mutation: with `cpu_linear` as vLLM leaves it, packed, they do not; off by 6.4.
    """
    engine, newer = engine_for(tiny_model(kind)), tiny_model(kind, seed=1)
    weights = pack(1, newer)
    assert engine.load(weights) == weights.digest == digest(engine._tensors)
    requests = requests_of_all_lengths(12)
    assert off_by(newer, requests, engine.generate(requests)) < 1e-3


@pytest.mark.parametrize(("top_k", "top_p"), [(3, 1.0), (0, 0.7), (5, 0.8)])
def test_truncated_logprobs_are_those_of_what_truncation_keeps(
    engine: VllmEngine, model: PreTrainedModel, top_k: int, top_p: float
) -> None:
    requests = requests_of_all_lengths(25, temperature=1.3, top_k=top_k, top_p=top_p)
    for request, completion in zip(requests, engine.generate(requests), strict=True):
        sequence = request.token_ids + completion.token_ids
        logits = logits_of(model, sequence[:-1])[len(request.token_ids) - 1 :]
        ones = torch.ones(len(logits))
        kept = truncate(distribution(logits, 1.3 * ones), (top_k * ones).long(), top_p * ones)
        own = kept.gather(1, torch.tensor(completion.token_ids)[:, None]).squeeze(1).log()
        torch.testing.assert_close(torch.tensor(completion.logprobs), own, atol=1e-3, rtol=0.0)


def test_greedy_is_the_most_probable_token_and_certain(engine: VllmEngine, model: PreTrainedModel) -> None:
    requests = requests_of_all_lengths(10, temperature=0.0)
    # Neighbours that are drawn at random share their passes.
    neighbours = requests_of_all_lengths(10)
    for request, completion in zip(requests, engine.generate([*requests, *neighbours]), strict=False):
        logits = logits_of(model, request.token_ids + completion.token_ids[:-1])
        assert list(completion.token_ids) == logits[len(request.token_ids) - 1 :].argmax(-1).tolist()
        assert set(completion.logprobs) == {0.0}


def test_draws_have_the_frequencies_of_the_distribution(engine: VllmEngine, model: PreTrainedModel) -> None:
    """Seeds 0 to 3999, one token each: every share within five standard errors sqrt(p (1 - p) / 4000)."""
    num = 4000
    requests = [
        Request(token_ids=(1, 4), sampling=Sampling(max_new_tokens=1), seed=seed) for seed in range(num)
    ]
    drawn = torch.tensor([completion.token_ids[0] for completion in engine.generate(requests)])
    share = drawn.bincount(minlength=NUM_WORDS) / num
    p = logits_of(model, (1, 4))[-1].softmax(-1)
    assert bool(((share - p).abs() <= 5 * (p * (1 - p) / num).sqrt() + 1 / num).all())


def test_after_new_weights_midway_every_token_comes_from_one_policy(
    engine: VllmEngine, model: PreTrainedModel
) -> None:
    """Keys and values of what was said before are computed anew.

    Mutation: without reset_running_requests the log-probs after the change are neither model's.
    """
    request = Request(
        token_ids=(1, 2, 3), sampling=Sampling(max_new_tokens=9, stop_token_ids=(NUM_WORDS,)), seed=3
    )
    ticket = engine.submit(request)
    for _ in range(4):
        engine.step()
    newer = tiny_model("wide-llama", seed=1)
    engine.load(pack(1, newer))
    done: dict[int, Completion] = {}
    while engine.has_work:
        done.update(engine.step())
    completion = done[ticket]
    logprobs = torch.tensor(completion.logprobs)
    older_half, newer_half = (logprobs_of(m, request, completion) for m in (model, newer))
    torch.testing.assert_close(logprobs[:4], older_half[:4], atol=1e-3, rtol=0.0)
    torch.testing.assert_close(logprobs[4:], newer_half[4:], atol=1e-3, rtol=0.0)
    assert (completion.policy_version_min, completion.policy_version_max) == (0, 1)


def test_shared_prompts_are_forgotten_with_the_weights_that_made_them() -> None:
    """A prompt of more than one block (128 tokens), asked again after new weights.

    Mutation: without a reset in `forget` the second answer's log-probs are off by 7.3.
    """
    model, newer = tiny_model("wide-long"), tiny_model("wide-long", seed=1)
    engine = engine_for(model)
    draw = random.Random(0)
    prompt = tuple(draw.randrange(NUM_WORDS) for _ in range(300))
    requests = [
        Request(token_ids=prompt, sampling=Sampling(max_new_tokens=8), seed=seed) for seed in range(6)
    ]
    assert off_by(model, requests, engine.generate(requests)) < 1e-3
    engine.load(pack(1, newer))
    assert off_by(newer, requests, engine.generate(requests)) < 1e-3


def test_logits_that_are_not_finite_are_refused_and_the_engine_goes_on(engine: VllmEngine) -> None:
    requests = requests_of_all_lengths(5)
    expected = [completion.token_ids for completion in engine.generate(requests)]
    weight = engine._tensors["model.norm.weight"]
    kept = weight.clone()
    weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="policy version 0"):
        engine.generate(requests)
    weight.copy_(kept)
    engine.forget()
    assert [completion.token_ids for completion in engine.generate(requests)] == expected


@pytest.mark.parametrize("sampling", [{"temperature": 0.005}, {"epsilon": 0.1}, {"beta": 1.0}])
def test_what_vllm_would_draw_otherwise_is_refused(engine: VllmEngine, sampling: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"sampling.{next(iter(sampling))}"):
        engine.submit(Request(token_ids=(1,), sampling=Sampling(max_new_tokens=4, **sampling), seed=0))  # type: ignore[arg-type]
    assert not engine.has_work


def test_the_process_around_it_stays_as_it_was() -> None:
    """Others compute in it too: their random numbers, threads and child processes are theirs."""

    def state() -> tuple[object, ...]:
        numbers = (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[union-attr]
        return (*numbers, torch.get_num_threads(), torch.set_num_threads, os.environ.get("LD_PRELOAD"))

    before = state()
    engine_for(tiny_model("wide-llama")).generate(requests_of_all_lengths(3))
    torch_only = state()
    # tiny_model seeds torch itself; all else is as it was, and generating moved nothing.
    tiny_model("wide-llama")
    assert state()[0] == torch_only[0]
    assert torch_only[1:] == before[1:]


def test_an_engine_that_is_given_up_frees_its_memory_and_leaves_the_others_in_peace(
    engine: VllmEngine, model: PreTrainedModel
) -> None:
    """Mutation: with vLLM's own finalizer the first engine has no process group to step in any more."""
    other = engine_for(tiny_model("wide-llama", seed=1))
    [inner] = other._llm.apply_model(weakref.ref)
    del other
    gc.collect()
    assert inner() is None
    requests = requests_of_all_lengths(3)
    assert off_by(model, requests, engine.generate(requests)) < 1e-3


def test_a_model_that_vllm_has_no_kernel_for_is_refused_with_a_remedy() -> None:
    with pytest.raises(UserError, match="vLLM cannot play a model of type 'llama'") as refusal:
        engine_for(tiny_model("llama"))
    assert "torch" in refusal.value.remedy
