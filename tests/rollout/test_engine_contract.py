"""What every engine owes its callers, run over all of them; over vLLM where it is installed."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from transformers import PreTrainedModel

from antiphon.errors import UserError
from antiphon.plugins import built_in
from rollout.engines.base import Engine
from rollout.engines.scripted import Line, ScriptedEngine
from rollout.engines.torch_engine import TorchEngine
from rollout.engines.vllm_engine import VllmEngine
from rollout.types import Completion, Request, Sampling
from rollout.weights import WeightsError, pack
from tests.rollout.fakes_engines import EOS, NUM_WORDS, requests_of_all_lengths, tiny_model


@dataclass(frozen=True)
class Subject:
    """An engine under contract: how it is made, and around which of the tiny models."""

    make: Callable[[PreTrainedModel], Engine]
    kind: str = "llama"

    def model(self, seed: int = 0) -> PreTrainedModel:
        return tiny_model(self.kind, seed)

    def engine(self) -> Engine:
        """One that has its model's own weights as version 0."""
        made = self.make(self.model())
        made.policy_version = 0
        return made


def make_torch(model: PreTrainedModel) -> Engine:
    return TorchEngine(TorchEngine.Config(num_slots=3), model, (EOS,))


def make_torch_alone(model: PreTrainedModel) -> Engine:
    """Without native kernels, as on a machine that has no compiler."""
    return TorchEngine(TorchEngine.Config(num_slots=3, is_native=False), model, (EOS,))


def make_vllm(model: PreTrainedModel) -> Engine:
    return VllmEngine(VllmEngine.Config(num_slots=3, kv_cache_bytes=2**24), model, (EOS,))


def make_scripted(model: PreTrainedModel) -> Engine:
    lines = tuple(
        Line(token_ids=tuple((n + k) % NUM_WORDS for k in range(20)), logprobs=(-0.5,) * 20) for n in range(7)
    )
    return ScriptedEngine(ScriptedEngine.Config(lines=lines), model, (EOS,))


MAKERS = {
    "torch": Subject(make_torch),
    "scripted": Subject(make_scripted),
    "vllm": Subject(make_vllm, "wide-llama"),
}
VARIANTS = {**MAKERS, "torch alone": Subject(make_torch_alone)}
NEEDS_VLLM = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed here: see docs/engines.md"
)


@pytest.fixture(params=[pytest.param(name, marks=NEEDS_VLLM if name == "vllm" else ()) for name in VARIANTS])
def subject(request: pytest.FixtureRequest) -> Subject:
    return VARIANTS[request.param]


@pytest.fixture
def engine(subject: Subject) -> Engine:
    return subject.engine()


def tokens(completions: list[Completion]) -> list[tuple[int, ...]]:
    return [completion.token_ids for completion in completions]


def test_every_engine_is_under_contract() -> None:
    assert set(built_in(Engine, "rollout.engines")) == set(MAKERS)


def test_completions_come_in_the_order_of_the_requests(engine: Engine) -> None:
    requests = requests_of_all_lengths(10)
    together = tokens(engine.generate(requests))
    assert together == [tokens(engine.generate([request]))[0] for request in requests]
    assert tokens(engine.generate(requests[::-1])) == together[::-1]


def test_a_completion_has_one_logprob_per_token_and_ends_by_stop_or_length(engine: Engine) -> None:
    for request, completion in zip(
        requests_of_all_lengths(40), engine.generate(requests_of_all_lengths(40)), strict=True
    ):
        assert len(completion.token_ids) == len(completion.logprobs) >= 1
        assert all(logprob <= 0.0 for logprob in completion.logprobs)
        assert all(type(token) is int for token in completion.token_ids)
        assert EOS not in completion.token_ids[:-1]
        if completion.finish_reason == "stop":
            assert completion.token_ids[-1] == EOS
        else:
            assert completion.token_ids[-1] != EOS
            assert len(completion.token_ids) == request.sampling.max_new_tokens


def test_both_ways_to_finish_do_happen(engine: Engine) -> None:
    reasons = {completion.finish_reason for completion in engine.generate(requests_of_all_lengths(40))}
    assert reasons == {"stop", "length"}


def test_the_requests_own_stop_tokens_take_the_place_of_the_eos(engine: Engine) -> None:
    sampling = Sampling(max_new_tokens=30, stop_token_ids=(5, 9))
    requests = [Request(token_ids=(1, 4), sampling=sampling, seed=seed) for seed in range(30)]
    completions = engine.generate(requests)
    assert {c.token_ids[-1] for c in completions if c.finish_reason == "stop"} == {5, 9}
    assert any(EOS in c.token_ids[:-1] for c in completions)


def test_a_stop_token_drawn_as_the_last_allowed_one_is_a_stop(engine: Engine) -> None:
    sampling = Sampling(max_new_tokens=1, stop_token_ids=tuple(range(NUM_WORDS)))
    [completion] = engine.generate([Request(token_ids=(1,), sampling=sampling, seed=0)])
    assert completion.finish_reason == "stop"


def test_steps_hand_out_each_ticket_once_and_requests_may_join_at_any_time(engine: Engine) -> None:
    requests = requests_of_all_lengths(9)
    expected = engine.generate(requests)
    waiting = list(enumerate(requests))
    number, done = {}, {}
    while waiting or engine.has_work:
        if waiting:
            place, request = waiting.pop()
            number[engine.submit(request)] = place
        for ticket, completion in engine.step():
            assert number[ticket] not in done
            done[number[ticket]] = completion
    assert tokens([done[place] for place in range(9)]) == tokens(expected)
    assert engine.step() == []


def test_nothing_is_generated_before_there_are_weights(subject: Subject) -> None:
    engine = subject.make(subject.model())
    assert engine.policy_version == -1
    with pytest.raises(ValueError, match="no weights"):
        engine.generate(requests_of_all_lengths(1))


def test_loading_echoes_the_digest_and_stamps_what_comes_after(subject: Subject, engine: Engine) -> None:
    """S8 (a)."""
    weights = pack(5, subject.model(seed=1))
    assert engine.load(weights) == weights.digest
    assert engine.policy_version == 5
    [completion] = engine.generate(requests_of_all_lengths(1))
    assert (completion.policy_version_min, completion.policy_version_max) == (5, 5)


def test_weights_that_do_not_fit_leave_the_engine_at_its_version(subject: Subject, engine: Engine) -> None:
    """S8 (d)."""
    requests = requests_of_all_lengths(6)
    before = engine.generate(requests)
    broken = subject.model(seed=1)
    with torch.no_grad():
        broken.model.layers[1].mlp.down_proj.weight[3, 4] = torch.nan
    with pytest.raises(WeightsError, match="down_proj"):
        engine.load(pack(1, broken))
    assert engine.policy_version == 0
    assert engine.generate(requests) == before


def test_new_weights_midway_are_stamped_as_a_range(subject: Subject, engine: Engine) -> None:
    """S8 (e)."""
    sampling = Sampling(max_new_tokens=4, stop_token_ids=(NUM_WORDS,))
    first = engine.submit(Request(token_ids=(1, 2), sampling=sampling, seed=0))
    engine.step()
    engine.load(pack(1, subject.model(seed=1)))
    second = engine.submit(Request(token_ids=(1, 2), sampling=sampling, seed=0))
    done = {}
    while engine.has_work:
        done.update(engine.step())
    assert (done[first].policy_version_min, done[first].policy_version_max) == (0, 1)
    assert (done[second].policy_version_min, done[second].policy_version_max) == (1, 1)


def test_an_error_leaves_the_engine_empty_and_usable(engine: Engine) -> None:
    requests = requests_of_all_lengths(4)
    expected = engine.generate(requests)
    empty = Request(token_ids=(), sampling=Sampling(), seed=0)
    with pytest.raises(ValueError, match="at least one token"):
        engine.generate([*requests, empty])
    assert not engine.has_work
    assert engine.generate(requests) == expected


def test_generate_wants_an_idle_engine_and_clear_makes_it_one(engine: Engine) -> None:
    requests = requests_of_all_lengths(5)
    expected = engine.generate(requests)
    for request in requests:
        engine.submit(request)
    engine.step()
    with pytest.raises(ValueError, match="idle"):
        engine.generate(requests)
    engine.clear()
    assert not engine.has_work
    assert engine.generate(requests) == expected


def test_a_completion_that_may_not_fit_is_refused_before_anything_runs(engine: Engine) -> None:
    fits = Request(token_ids=(1,) * 60, sampling=Sampling(max_new_tokens=4), seed=0)
    too_long = Request(token_ids=(1,) * 60, sampling=Sampling(max_new_tokens=5), seed=0)
    assert len(engine.generate([fits])) == 1
    with pytest.raises(UserError, match="65 positions, but the context of the model is 64"):
        engine.submit(too_long)
    assert not engine.has_work


def test_no_requests_give_no_completions(engine: Engine) -> None:
    assert engine.generate([]) == []
