"""Decoding over fixed memory, as a GPU captures it, against decoding as it comes; what captures is a fake."""

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from rollout.engines.cuda_graphs import CudaGraphs
from rollout.engines.static_step import StaticStep, round_up_positions, round_up_rows
from rollout.engines.torch_engine import TorchEngine
from rollout.types import Completion, Request, Sampling
from rollout.weights import pack
from tests.rollout.fakes_engines import EOS, NUM_WORDS, tiny_model
from tests.rollout.fakes_graphs import FakeGraphs, Tape

KINDS = ["long", "qwen3"]


def engine_for(model: PreTrainedModel, is_graphed: bool) -> TorchEngine:
    config = TorchEngine.Config(num_slots=5, is_graphed=is_graphed, is_native=False)
    engine = TorchEngine(config, model, (EOS,))
    engine.policy_version = 0
    return engine


def captured_engine(model: PreTrainedModel) -> tuple[TorchEngine, FakeGraphs]:
    """The same, with graphs that are played."""
    engine, graphs = engine_for(model, is_graphed=True), FakeGraphs()
    assert engine._static is not None
    engine._static._capture = graphs
    return engine, graphs


def requests(num: int, max_new_tokens: int, **sampling: Any) -> list[Request]:
    """Prompts of 2 to 6 tokens, so that rows differ in position and end at different times."""
    return [
        Request(
            token_ids=tuple(range(3, 5 + i % 5)),
            sampling=Sampling(
                max_new_tokens=max_new_tokens - i % 3,
                temperature=1.0 + 0.1 * i,
                # Long ones do not stop before they are long.
                stop_token_ids=(NUM_WORDS,) if max_new_tokens > 64 else (),
                **sampling,
            ),
            seed=100 + i,
        )
        for i in range(num)
    ]


def assert_same(ours: list[Completion], theirs: list[Completion]) -> None:
    for own, other in zip(ours, theirs, strict=True):
        assert own.token_ids == other.token_ids
        assert own.finish_reason == other.finish_reason
        assert torch.tensor(own.logprobs).sub(torch.tensor(other.logprobs)).abs().max() < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_a_captured_step_draws_what_any_step_draws_while_slots_are_refilled(kind: str) -> None:
    """12 requests through 5 slots. Mutations: inputs that are not copied to their place; rows rounded down;
    positions that are not rounded up."""
    model = tiny_model(kind)
    plain = engine_for(model, is_graphed=False).generate(requests(12, 9))
    engine, graphs = captured_engine(model)
    assert_same(engine.generate(requests(12, 9)), plain)
    assert graphs.num_played > graphs.num_captured > 0


def test_the_function_that_is_captured_runs_as_it_is_on_a_cpu() -> None:
    model = tiny_model("long")
    plain = engine_for(model, is_graphed=False).generate(requests(7, 9))
    assert_same(engine_for(model, is_graphed=True).generate(requests(7, 9)), plain)


def test_graphs_play_new_weights() -> None:
    """They are written in place. Mutation: a decoder with copies of the weights plays the old ones on."""
    old, new = tiny_model("long", seed=0), tiny_model("long", seed=1)
    weights = pack(1, new)
    other, (engine, graphs) = engine_for(new, is_graphed=False), captured_engine(old)
    # Without stop tokens the same sizes come again.
    other.eos_token_ids = engine.eos_token_ids = ()
    plain = other.generate(requests(8, 9))
    for _ in range(2):
        engine.generate(requests(8, 9))
    num_captured = graphs.num_captured
    engine.load(weights)
    assert_same(engine.generate(requests(8, 9)), plain)
    assert graphs.num_captured == num_captured > 0


def test_new_weights_midway_are_played_from_the_next_token_on() -> None:
    old, new = tiny_model("long", seed=0), tiny_model("long", seed=1)
    weights = pack(1, new)
    done: list[dict[int, Completion]] = []
    for engine in (engine_for(tiny_model("long"), is_graphed=False), captured_engine(old)[0]):
        found: dict[int, Completion] = {}
        for request in requests(5, 12):
            engine.submit(request)
        for number in range(40):
            if number == 6:
                engine.load(weights)
            found.update(engine.step())
        done.append(found)
    assert_same([done[1][i] for i in range(5)], [done[0][i] for i in range(5)])
    assert {c.policy_versions for c in done[0].values()} == {c.policy_versions for c in done[1].values()}


def test_a_longer_prompt_among_running_rows_is_read_to_its_end() -> None:
    """Rows at positions below 16, then one of 100. Mutation: how far rows reach is not asked anew."""
    long = Request(token_ids=tuple(range(3, 28)) * 4, sampling=Sampling(max_new_tokens=5), seed=9)
    model, found = tiny_model("long"), []
    for engine in (engine_for(model, is_graphed=False), captured_engine(model)[0]):
        short = [engine.submit(request) for request in requests(2, 150)]
        done = {}
        for _ in range(9):
            done.update(engine.step())
        short.append(engine.submit(long))
        while engine.has_work:
            done.update(engine.step())
        found.append([done[ticket] for ticket in short])
    assert_same(found[1], found[0])


def test_graphs_go_when_the_cache_moves() -> None:
    """Room for 64 positions, then for 192. Mutation: addresses that are not compared decode from memory that
    was let go."""
    model = tiny_model("long")
    engine, graphs = captured_engine(model)
    engine.generate(requests(5, 9))
    num_captured = graphs.num_captured
    plain = engine_for(model, is_graphed=False).generate(requests(5, 140))
    assert_same(engine.generate(requests(5, 140)), plain)
    assert graphs.num_captured > num_captured


def test_rows_that_draw_otherwise_get_what_the_model_says_from_a_graph() -> None:
    """top_k for all, and one greedy row in plain company. Mutation: all rows drawn as plain ones."""
    model = tiny_model("long")
    greedy = Request(token_ids=(3, 4), sampling=Sampling(max_new_tokens=9, temperature=0.0), seed=7)
    for asked in (requests(6, 9, top_k=3), [*requests(4, 9), greedy]):
        engine, graphs = captured_engine(model)
        plain = engine_for(model, is_graphed=False).generate(asked)
        assert_same(engine.generate(asked), plain)
        assert graphs.num_played > 0


def test_a_model_that_is_not_merged_is_decoded_by_its_own_forward() -> None:
    engine = engine_for(tiny_model("gpt2"), is_graphed=True)
    assert engine._static is None
    assert len(engine.generate(requests(3, 5))) == 3


def test_after_logits_that_are_not_finite_a_smaller_cache_is_decoded_from() -> None:
    """Mutation: rows that are not in use keep positions of the larger cache, beyond the end of the new."""
    model = tiny_model("long")
    plain = engine_for(model, is_graphed=False).generate(requests(3, 9))
    engine, _ = captured_engine(model)
    for request in requests(5, 140):
        engine.submit(request)
    for _ in range(100):
        engine.step()
    norm = model.model.norm.weight
    scale = norm.data.clone()
    norm.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError):
        engine.step()
    norm.data.copy_(scale)
    assert_same(engine.generate(requests(3, 9)), plain)


def test_the_fake_refuses_what_a_stream_that_is_captured_refuses() -> None:
    with pytest.raises(RuntimeError, match="asks the device"), Tape():
        bool(torch.ones(2).sum() > 1)


def test_rows_and_positions_come_in_few_sizes() -> None:
    """Rows: powers of two, and all. Positions: 64 apart, from 513 on 128, from 1025 on 256."""
    assert [round_up_rows(n, 24) for n in (1, 2, 3, 5, 16, 17, 24)] == [1, 2, 4, 8, 16, 24, 24]
    found = [round_up_positions(n, 4096) for n in (1, 64, 65, 512, 513, 1024, 1025, 1281)]
    assert found == [64, 64, 128, 512, 640, 1024, 1280, 1536]
    assert round_up_positions(1281, 1344) == 1344


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: CUDA graphs are captured there alone")
def test_cuda_graphs_draw_what_steps_draw() -> None:
    model = tiny_model("long").cuda()
    plain = engine_for(model, is_graphed=False).generate(requests(12, 140))
    engine = engine_for(model, is_graphed=True)
    assert isinstance(engine._static, StaticStep)
    assert isinstance(engine._static._capture, CudaGraphs)
    for _ in range(2):
        assert_same(engine.generate(requests(12, 140)), plain)
    assert not engine._static._capture._has_failed
