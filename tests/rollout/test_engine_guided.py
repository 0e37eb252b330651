"""An engine that plays a Q function beside its model, against the plainest computation of the same thing."""

import copy

import pytest
import torch

from antiphon.errors import UserError
from rollout.engines.scripted import Line, ScriptedEngine
from rollout.engines.torch_engine import TorchEngine
from rollout.q_function import for_model
from rollout.types import Request, Sampling
from rollout.weights import WeightsError, digest, pack, together
from tests.rollout.fakes_engines import EOS, NUM_WORDS, requests_of_all_lengths, tiny_model
from tests.rollout.fakes_guides import FORMS, MuteEngine, guided_engine, off_by, opinionated, played_plainly


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
def test_logprobs_are_those_of_the_model_moved_by_the_q_function(kind: str, form: str) -> None:
    """Through slots, refills, padding and cache; temperature, truncation, β and ε together."""
    model = tiny_model(kind)
    guide = opinionated(model, form)
    for sampling in (
        {"beta": 2.0},
        {"beta": 4.0, "temperature": 0.7, "top_k": 6},
        {"beta": 1.0, "temperature": 1.5, "top_k": 9, "epsilon": 0.2},
        {"beta": 3.0, "temperature": 0.0, "top_k": 5, "epsilon": 0.3},
    ):
        requests = requests_of_all_lengths(12, **sampling)
        completions = guided_engine(model, guide).generate(requests)
        assert off_by(model, guide, requests, completions) < 2e-4


def test_guided_completions_are_others_than_those_of_the_model_alone() -> None:
    model = tiny_model("llama")
    guide = opinionated(model)
    alone = guided_engine(model, guide).generate(requests_of_all_lengths(20))
    moved = guided_engine(model, guide).generate(requests_of_all_lengths(20, beta=3.0))
    assert sum(a.token_ids != m.token_ids for a, m in zip(alone, moved, strict=True)) > 10


def test_a_sequence_alone_equals_itself_among_others_with_another_beta() -> None:
    """S10: the same tokens whatever the slots, the order and what the neighbours play."""
    model = tiny_model("llama")
    guide = opinionated(model)
    requests = [
        request
        for beta, epsilon in ((0.0, 0.0), (2.0, 0.0), (0.0, 0.3), (5.0, 0.1))
        for request in requests_of_all_lengths(6, beta=beta, epsilon=epsilon)
    ]
    alone = [guided_engine(model, guide).generate([request])[0] for request in requests]
    for num_slots in (1, 3, 64):
        engine = guided_engine(model, guide, num_slots)
        for order in (1, -1):
            together_ = engine.generate(requests[::order])[::order]
            assert [c.token_ids for c in together_] == [c.token_ids for c in alone]
            for one, other in zip(together_, alone, strict=True):
                assert torch.allclose(torch.tensor(one.logprobs), torch.tensor(other.logprobs), atol=1e-5)


def test_beta_0_is_the_model_alone_bit_for_bit_also_beside_guided_neighbours() -> None:
    model = tiny_model("llama")
    plain = TorchEngine(TorchEngine.Config(num_slots=4, max_prefill_tokens=32), copy.deepcopy(model), (EOS,))
    plain.policy_version = 0
    requests = requests_of_all_lengths(15)
    expected = plain.generate(requests)
    engine = guided_engine(model, opinionated(model))
    assert engine.generate(requests) == expected
    guided = requests_of_all_lengths(15, beta=3.0)
    mixed = engine.generate([x for pair in zip(requests, guided, strict=True) for x in pair])[::2]
    assert [c.token_ids for c in mixed] == [c.token_ids for c in expected]


def test_a_new_q_function_changes_nothing() -> None:
    model = tiny_model("llama")
    engine = guided_engine(model, for_model(FORMS["low_rank"], model))
    requests = requests_of_all_lengths(15)
    for one, other in zip(
        engine.generate(requests), engine.generate(requests_of_all_lengths(15, beta=4.0)), strict=True
    ):
        assert one.token_ids == other.token_ids
        assert torch.allclose(torch.tensor(one.logprobs), torch.tensor(other.logprobs), atol=1e-5)


def test_the_same_seed_draws_the_same_tokens() -> None:
    model = tiny_model("gpt2")
    guide = opinionated(model)
    requests = requests_of_all_lengths(10, beta=2.0, epsilon=0.2)
    assert guided_engine(model, guide).generate(requests) == guided_engine(model, guide).generate(requests)


def test_greedy_takes_the_token_that_model_and_q_function_think_best_together() -> None:
    model = tiny_model("llama")
    guide = opinionated(model)
    requests = requests_of_all_lengths(12, temperature=0.0, beta=3.0)
    for request, completion in zip(requests, guided_engine(model, guide).generate(requests), strict=True):
        sequence = request.token_ids + completion.token_ids
        best = played_plainly(model, guide, sequence[:-1], request).argmax(-1)
        assert best[len(request.token_ids) - 1 :].tolist() == list(completion.token_ids)
        assert set(completion.logprobs) == {0.0}


def test_tokens_are_drawn_as_often_as_the_mixture_says() -> None:
    """Chi-square over 20,000 draws, p > 1e-4: β 2, the best 6 kept, a fifth drawn uniformly from them."""
    model, num_draws = tiny_model("gpt2"), 20_000
    guide = opinionated(model)
    sampling = Sampling(beta=2.0, top_k=6, epsilon=0.2, max_new_tokens=1)
    requests = [Request(token_ids=(3, 1, 4), sampling=sampling, seed=seed) for seed in range(num_draws)]
    drawn = guided_engine(model, guide, num_slots=1000).generate(requests)
    observed = torch.tensor([c.token_ids[0] for c in drawn]).bincount(minlength=NUM_WORDS).double()
    expected = played_plainly(model, guide, (3, 1, 4), requests[0])[-1] * num_draws
    assert int((expected > 0).sum()) == 6
    assert observed[expected == 0].sum() == 0
    kept = expected > 0
    chi_square = float(((observed - expected)[kept].square() / expected[kept]).sum())
    # The quantile of chi-square with 5 degrees of freedom at 1 - 1e-4 is 25.74.
    assert chi_square < 25.74


def test_a_model_in_half_precision_is_guided_in_single() -> None:
    model = tiny_model("llama").to(torch.bfloat16)
    guide = opinionated(model).float()
    requests = requests_of_all_lengths(12, beta=2.0)
    assert off_by(model, guide, requests, guided_engine(model, guide).generate(requests)) < 0.3


def test_weights_bring_both_and_the_digest_is_over_both() -> None:
    model, other = tiny_model("llama"), tiny_model("llama", seed=1)
    engine = guided_engine(model, opinionated(model))
    guide = opinionated(other, seed=5)
    for dtype in (torch.float32, torch.bfloat16):
        weights = pack(1, together(other, guide), dtype)
        assert engine.load(weights) == weights.digest == digest(together(other, guide), dtype)
        assert weights.digest != digest(other, dtype)
    engine.load(pack(2, together(other, guide)))
    requests = requests_of_all_lengths(8, beta=2.0)
    assert off_by(other, guide, requests, engine.generate(requests)) < 2e-4


def test_new_weights_midway_bring_a_new_q_function_too() -> None:
    model = tiny_model("llama")
    first, second = opinionated(model, seed=1), opinionated(model, seed=2)
    engine = guided_engine(model, first)
    sampling = Sampling(max_new_tokens=4, beta=3.0, stop_token_ids=(NUM_WORDS,))
    request = Request(token_ids=(1, 2), sampling=sampling, seed=0)
    engine.submit(request)
    engine.step()
    engine.load(pack(1, together(model, second)))
    done = {}
    while engine.has_work:
        done.update(engine.step())
    [completion] = done.values()
    sequence = request.token_ids + completion.token_ids
    index = torch.tensor(completion.token_ids)[:, None]
    by_first, by_second = (
        played_plainly(model, q, sequence[:-1], request)[1:].gather(1, index).squeeze(1).log()
        for q in (first, second)
    )
    expected = torch.cat([by_first[:1], by_second[1:]])
    torch.testing.assert_close(torch.tensor(completion.logprobs).double(), expected, atol=2e-4, rtol=0.0)
    assert float((by_first - by_second).abs().min()) > 1e-3


def test_weights_without_the_q_function_or_with_one_too_many_are_refused() -> None:
    model = tiny_model("llama")
    guide = opinionated(model)
    engine = guided_engine(model, guide)
    requests = requests_of_all_lengths(5, beta=2.0)
    before = engine.generate(requests)
    with pytest.raises(WeightsError, match=r"missing: guide\."):
        engine.load(pack(1, tiny_model("llama", seed=1)))
    broken = copy.deepcopy(guide)
    with torch.no_grad():
        broken.v_head[1].bias.fill_(torch.nan)
    with pytest.raises(WeightsError, match=r"not finite: guide\.v_head"):
        engine.load(pack(1, together(tiny_model("llama", seed=1), broken)))
    assert engine.policy_version == 0
    assert engine.generate(requests) == before
    alone = TorchEngine(TorchEngine.Config(), copy.deepcopy(model), (EOS,))
    with pytest.raises(WeightsError, match=r"unknown to the model: guide\."):
        alone.load(pack(1, together(model, guide)))


def test_q_values_that_are_not_finite_are_refused_and_leave_the_engine_empty() -> None:
    model = tiny_model("llama")
    engine = guided_engine(model, opinionated(model))
    with torch.no_grad():
        engine.guide.v_head[1].weight.fill_(torch.inf)
    with pytest.raises(FloatingPointError, match="logits and Q of policy version 0 are not finite"):
        engine.generate(requests_of_all_lengths(3, beta=1.0))
    assert not engine.has_work


def test_beta_without_a_q_function_is_refused_before_anything_runs() -> None:
    engine = TorchEngine(TorchEngine.Config(), tiny_model("llama"), (EOS,))
    engine.policy_version = 0
    with pytest.raises(ValueError, match="there is no Q function to play"):
        engine.submit(requests_of_all_lengths(1, beta=1.0)[0])
    assert not engine.has_work


def test_epsilon_needs_no_q_function() -> None:
    engine = TorchEngine(TorchEngine.Config(), tiny_model("llama"), (EOS,))
    engine.policy_version = 0
    sampling = Sampling(temperature=0.0, epsilon=1.0, top_k=4, max_new_tokens=1)
    drawn = engine.generate([Request(token_ids=(3,), sampling=sampling, seed=seed) for seed in range(200)])
    assert len({c.token_ids for c in drawn}) == 4
    assert {round(c.logprobs[0], 5) for c in drawn} == {round(-torch.tensor(4.0).log().item(), 5)}


def test_a_guide_comes_before_the_weights_and_to_an_engine_that_can_play_it() -> None:
    model = tiny_model("llama")
    engine = guided_engine(model, opinionated(model))
    with pytest.raises(ValueError, match="before its first weights"):
        engine.follow(opinionated(model))
    with pytest.raises(UserError, match="the mute engine cannot play a Q function"):
        MuteEngine(MuteEngine.Config(lines=(Line(token_ids=(5,)),)), model, (EOS,)).follow(opinionated(model))


def test_the_scripted_engine_takes_a_guide_and_says_its_lines() -> None:
    model = tiny_model("llama")
    guide = opinionated(model)
    engine = ScriptedEngine(ScriptedEngine.Config(lines=(Line(token_ids=(5, EOS)),)), model, (EOS,))
    engine.follow(guide)
    weights = pack(0, together(model, guide))
    assert engine.load(weights) == weights.digest
    [completion] = engine.generate([requests_of_all_lengths(1, beta=2.0)[0]])
    assert completion.token_ids == (5, EOS)


def test_a_model_that_changes_its_states_before_the_unembedding_is_refused() -> None:
    model = tiny_model("gpt2")
    model.lm_head.register_forward_pre_hook(lambda _, arguments: (arguments[0] / 2,))
    engine = TorchEngine(TorchEngine.Config(), model, (EOS,))
    with pytest.raises(UserError, match="changes its hidden states before the unembedding"):
        engine.follow(opinionated(model))


def test_nothing_is_left_on_the_model_by_reading_its_states() -> None:
    model = tiny_model("llama")
    engine = guided_engine(model, opinionated(model))
    engine.generate(requests_of_all_lengths(3, beta=1.0))
    assert not engine.model.get_output_embeddings()._forward_pre_hooks
