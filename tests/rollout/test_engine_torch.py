"""The torch engine against the plainest computation of the same thing: one sequence, no cache, no padding."""

import copy
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import (
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from antiphon.errors import UserError
from rollout.engines.torch_engine import TorchEngine
from rollout.types import Completion, Request, Sampling
from rollout.weights import pack
from tests.rollout.fakes_engines import (
    EOS,
    NUM_WORDS,
    logits_of,
    logprobs_of,
    requests_of_all_lengths,
    tiny_model,
)

KINDS = ("llama", "gpt2", "qwen2", "qwen3")


def engine_for(model: PreTrainedModel, num_slots: int = 4, max_prefill_tokens: int = 32) -> TorchEngine:
    config = TorchEngine.Config(num_slots=num_slots, max_prefill_tokens=max_prefill_tokens)
    engine = TorchEngine(config, copy.deepcopy(model), (EOS,))
    engine.policy_version = 0
    return engine


def off_by(model: PreTrainedModel, requests: list[Request], completions: list[Completion]) -> float:
    """The largest difference between a logprob of the engine and the plain one."""
    pairs = zip(requests, completions, strict=True)
    return max(float((torch.tensor(c.logprobs) - logprobs_of(model, r, c)).abs().max()) for r, c in pairs)


def watched_engine(
    num_slots: int, max_prefill_tokens: int = 4096
) -> tuple[TorchEngine, list[tuple[int, ...]]]:
    """An engine that nothing but length stops, and the shape of all that will be run through its model."""
    # One of those that are decoded by their own forward, where it can be watched.
    model, shapes = tiny_model("gpt2"), []

    def note(_module: object, _args: object, options: dict[str, torch.Tensor]) -> None:
        shapes.append(tuple(options["input_ids"].shape))

    model.register_forward_pre_hook(note, with_kwargs=True)
    config = TorchEngine.Config(num_slots=num_slots, max_prefill_tokens=max_prefill_tokens)
    engine = TorchEngine(config, model, ())
    engine.policy_version = 0
    shapes.clear()
    return engine, shapes


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("kind", KINDS)
def test_logprobs_are_those_of_softmax_of_logits_over_temperature(kind: str, temperature: float) -> None:
    """S1, S10: through slots, refills, padding and cache, at every temperature."""
    model = tiny_model(kind)
    requests = requests_of_all_lengths(25, temperature=temperature)
    assert off_by(model, requests, engine_for(model).generate(requests)) < 1e-4


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_sequence_alone_equals_itself_in_any_company(kind: str) -> None:
    """S10: the same tokens whatever the slots, the order and the neighbours; logprobs within 1e-5."""
    model = tiny_model(kind)
    requests = requests_of_all_lengths(20)
    alone = [engine_for(model).generate([request])[0] for request in requests]
    for num_slots, max_prefill_tokens in ((1, 1), (2, 8), (7, 64), (64, 4096)):
        engine = engine_for(model, num_slots, max_prefill_tokens)
        for order in (requests, requests[::-1]):
            together = engine.generate(order)
            together = together if order is requests else together[::-1]
            assert [c.token_ids for c in together] == [c.token_ids for c in alone]
            for one, other in zip(together, alone, strict=True):
                assert torch.allclose(torch.tensor(one.logprobs), torch.tensor(other.logprobs), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_equals_the_greedy_generation_of_transformers(kind: str) -> None:
    model = tiny_model(kind)
    requests = requests_of_all_lengths(20, temperature=0.0, max_new_tokens=12)
    for request, completion in zip(requests, engine_for(model).generate(requests), strict=True):
        prompt = torch.tensor([request.token_ids])
        expected = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=12,
            eos_token_id=EOS,
            pad_token_id=0,
        )
        assert list(completion.token_ids) == expected[0, len(request.token_ids) :].tolist()
        assert set(completion.logprobs) == {0.0}


def test_the_generation_config_of_a_model_folder_is_never_consulted(tmp_path: Path) -> None:
    """S1."""
    model = tiny_model("gpt2")
    model.generation_config.update(repetition_penalty=1.3, top_k=5, temperature=0.7, do_sample=True)
    model.save_pretrained(tmp_path)
    loaded = GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    assert loaded.generation_config.repetition_penalty == 1.3
    requests = requests_of_all_lengths(25)
    assert off_by(model, requests, engine_for(loaded).generate(requests)) < 1e-4


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.5])
def test_first_tokens_are_drawn_as_often_as_their_probability_says(temperature: float) -> None:
    """S1: chi-square over 20,000 draws, p > 1e-4."""
    model, num_draws = tiny_model("gpt2"), 20_000
    sampling = Sampling(temperature=temperature, max_new_tokens=1)
    requests = [Request(token_ids=(3, 1, 4), sampling=sampling, seed=seed) for seed in range(num_draws)]
    drawn = engine_for(model, num_slots=1000).generate(requests)
    observed = torch.tensor([c.token_ids[0] for c in drawn]).bincount(minlength=NUM_WORDS).double()
    expected = (logits_of(model, (3, 1, 4))[-1] / temperature).double().softmax(-1) * num_draws
    # Words expected fewer than 20 times share one class.
    is_rare = expected < 20
    observed = torch.cat([observed[~is_rare], observed[is_rare].sum()[None]])
    expected = torch.cat([expected[~is_rare], expected[is_rare].sum()[None]])
    chi_square = float(((observed - expected).square() / expected.clamp_min(1e-9)).sum())
    # Wilson-Hilferty: chi-square / df is about (1 - 2/9df + z sqrt(2/9df))^3, with z = 3.719 for p = 1e-4.
    degrees = len(expected) - 1
    assert chi_square < degrees * (1 - 2 / (9 * degrees) + 3.719 * (2 / (9 * degrees)) ** 0.5) ** 3


def test_a_truncated_draw_reports_the_logprob_of_what_was_kept() -> None:
    """S1: with top_k the ratio to the full distribution is the kept mass, and that is what is reported."""
    model = tiny_model("llama")
    sampling = Sampling(top_k=3, max_new_tokens=1)
    requests = [Request(token_ids=(3, 1), sampling=sampling, seed=seed) for seed in range(50)]
    best, words = logits_of(model, (3, 1))[-1].softmax(-1).topk(3)
    kept = dict(zip(words.tolist(), (best / best.sum()).log().tolist(), strict=True))
    completions = engine_for(model).generate(requests)
    assert {c.token_ids[0] for c in completions} == set(kept)
    for completion in completions:
        assert completion.logprobs[0] == pytest.approx(kept[completion.token_ids[0]], abs=1e-5)


def test_probe_logprobs_follow_the_weights() -> None:
    """S8 (b): after a publish they are the learner's at that version, and no longer those of the last."""
    old, new = tiny_model("llama", seed=0), tiny_model("llama", seed=1)
    engine, requests = engine_for(old), requests_of_all_lengths(8)
    engine.load(pack(1, new))
    completions = engine.generate(requests)
    assert off_by(new, requests, completions) < 1e-4
    assert off_by(old, requests, completions) > 0.1


def test_a_shared_prompt_is_not_carried_across_new_weights() -> None:
    """S8 (c): one slot, so that the prompt of the second request is kept from the first."""
    new = tiny_model("llama", seed=1)
    engine = engine_for(tiny_model("llama", seed=0), num_slots=1)
    requests = [Request(token_ids=(3, 1, 4), sampling=Sampling(max_new_tokens=6), seed=s) for s in (0, 1)]
    tickets = [engine.submit(request) for request in requests]
    engine.step()
    engine.load(pack(1, new))
    done = {}
    while engine.has_work:
        done.update(engine.step())
    [cold] = engine_for(new).generate(requests[1:])
    assert done[tickets[1]].token_ids == cold.token_ids
    assert off_by(new, requests[1:], [done[tickets[1]]]) < 1e-4


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_after_new_weights_midway_every_token_comes_from_exactly_one_policy(kind: str) -> None:
    old, new = tiny_model(kind, seed=0), tiny_model(kind, seed=1)
    engine = engine_for(old, num_slots=3)
    requests = requests_of_all_lengths(3, max_new_tokens=9, stop_token_ids=(NUM_WORDS,))
    tickets = [engine.submit(request) for request in requests]
    for _ in range(4):
        engine.step()
    engine.load(pack(1, new))
    done = {}
    while engine.has_work:
        done.update(engine.step())
    for ticket, request in zip(tickets, requests, strict=True):
        completion = done[ticket]
        expected = torch.cat(
            [logprobs_of(old, request, completion)[:4], logprobs_of(new, request, completion)[4:]]
        )
        torch.testing.assert_close(torch.tensor(completion.logprobs), expected, atol=1e-4, rtol=0)


def test_a_prompt_shared_by_neighbours_is_run_once_even_when_they_do_not_fit_together() -> None:
    engine, shapes = watched_engine(num_slots=2)
    prompts = [(3, 1, 4)] * 5 + [(7, 7)] * 2
    sampling = Sampling(max_new_tokens=1)
    engine.generate([Request(token_ids=p, sampling=sampling, seed=n) for n, p in enumerate(prompts)])
    # Rounds of two: (A A), (A A), (A B), (B). A is run in the first, B in the third, nothing in the others.
    assert shapes == [(1, 3), (1, 2)]


def test_a_freed_slot_is_refilled_in_the_next_step_and_idle_slots_cost_nothing() -> None:
    engine, shapes = watched_engine(num_slots=2)
    lengths = (2, 4, 2)
    engine.generate(
        [
            Request(token_ids=(5 + n,), sampling=Sampling(max_new_tokens=length), seed=n)
            for n, length in enumerate(lengths)
        ]
    )
    # Prefill of two; both draw their second token and the first ends; the third takes its slot; both draw
    # again and the third ends; the second draws its fourth alone.
    assert shapes == [(2, 1), (2, 1), (1, 1), (2, 1), (1, 1)]


def test_prompts_wait_until_enough_slots_are_free_or_nobody_else_waits() -> None:
    model, shapes = tiny_model("gpt2"), list[tuple[int, ...]]()
    engine = TorchEngine(TorchEngine.Config(num_slots=4, min_refill=2), model, ())
    engine.policy_version = 0
    model.register_forward_pre_hook(
        lambda _module, _args, options: shapes.append(tuple(options["input_ids"].shape)), with_kwargs=True
    )
    lengths = (2, 3, 4, 4, 1, 1, 1)
    requests = [
        Request(token_ids=(3, 5 + n), sampling=Sampling(max_new_tokens=length), seed=n)
        for n, length in enumerate(lengths)
    ]
    engine.generate(requests)
    # Four are prefilled. One ends with its second token, and its slot stays empty while three draw their
    # third. Then two slots are free, for two that end at once, and one for the last, who waits for no other.
    # The other two draw their fourth alone.
    assert shapes == [(4, 2), (4, 1), (3, 1), (2, 2), (1, 2), (2, 1)]


def test_prefill_batches_stay_within_the_budget_of_tokens() -> None:
    engine, shapes = watched_engine(num_slots=16, max_prefill_tokens=12)
    requests = [
        Request(token_ids=(n,) * length, sampling=Sampling(max_new_tokens=1), seed=0)
        for n, length in enumerate((6, 1, 2, 30, 3, 5))
    ]
    engine.generate(requests)
    # Sorted 1 2 3 5 6 30: three of width 3 (a fourth would make 20), two of width 6, and one alone.
    assert shapes == [(3, 3), (2, 6), (1, 30)]


def test_attention_reads_only_as_far_as_the_longest_running_sequence() -> None:
    """Native kernels read a row only as far as the row itself."""
    engine = TorchEngine(TorchEngine.Config(num_slots=4, is_native=False), tiny_model("llama"), ())
    engine.policy_version = 0
    long = Request(token_ids=(1,) * 40, sampling=Sampling(max_new_tokens=2), seed=0)
    short = Request(token_ids=(1, 2), sampling=Sampling(max_new_tokens=2), seed=0)
    engine.generate([long])
    for _ in range(2):
        engine.generate([short])
        # Two tokens of the prompt and one that was drawn.
        assert engine._cache.get_seq_length() + 1 == 3


def test_room_grows_while_completions_are_under_way() -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(**{**tiny_model("llama").config.to_dict(), "max_position_embeddings": 512})
    )
    engine = engine_for(model.eval())
    lengths = (3, 60, 130, 300)
    requests = [
        Request(token_ids=tuple(range(1, 5)) * (n // 4 + 1), sampling=Sampling(max_new_tokens=12), seed=n)
        for n in lengths
    ]
    tickets = {}
    done = {}
    for request in requests:
        tickets[engine.submit(request)] = request
        done.update(engine.step())
        done.update(engine.step())
    while engine.has_work:
        done.update(engine.step())
    assert off_by(model, list(tickets.values()), [done[ticket] for ticket in tickets]) < 1e-4


def test_logits_that_are_not_finite_stop_the_engine_and_leave_no_trace() -> None:
    model = tiny_model("llama")
    # The long ones fill every slot with what is not finite; later short ones lie beside a long one.
    engine = engine_for(model)
    prompts = [(1,) * 40, (2,), (3,) * 40, (4,)]
    mixed = [Request(token_ids=p, sampling=Sampling(max_new_tokens=3), seed=0) for p in prompts]
    expected = engine.generate(mixed)
    weight = engine.model.model.layers[0].self_attn.v_proj.weight  # type: ignore[union-attr]
    healthy = weight.detach().clone()
    for temperature in (1.0, 0.0):
        with torch.no_grad():
            weight.fill_(torch.nan)
        engine.forget()
        sampling = Sampling(max_new_tokens=3, temperature=temperature)
        long = [Request(token_ids=(1,) * 40, sampling=sampling, seed=s) for s in range(4)]
        with pytest.raises(FloatingPointError, match="policy version 0 are not finite"):
            engine.generate(long)
        with torch.no_grad():
            weight.copy_(healthy)
        engine.forget()
        assert not engine.has_work
        assert engine.generate(mixed) == expected


def test_eager_attention_and_bfloat16_are_played_too() -> None:
    model = tiny_model("llama")
    requests = requests_of_all_lengths(12)
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    assert off_by(model, requests, engine_for(eager).generate(requests)) < 1e-4
    half = copy.deepcopy(model).to(torch.bfloat16)
    # 8 bits of significand, logits of size 10 or so: the bound is what such a model can hold, as recorded.
    assert off_by(half, requests, engine_for(half).generate(requests)) < 0.3


def test_neither_gradients_nor_training_mode_are_left_behind() -> None:
    model = tiny_model("llama").train()
    engine = TorchEngine(TorchEngine.Config(), model, (EOS,))
    engine.load(pack(0, tiny_model("llama", seed=1)))
    engine.generate(requests_of_all_lengths(2))
    assert not model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def sliding() -> PreTrainedModel:
    return MistralForCausalLM(
        MistralConfig(
            vocab_size=8,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            sliding_window=4,
        )
    )


def recurrent() -> PreTrainedModel:
    return MambaForCausalLM(MambaConfig(vocab_size=8, hidden_size=8, state_size=2, num_hidden_layers=1))


def two_sided() -> PreTrainedModel:
    return T5ForConditionalGeneration(
        T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=1, decoder_start_token_id=0)
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [(sliding, "DynamicSlidingWindowLayer"), (recurrent, "'mamba'"), (two_sided, "no causal language model")],
)
def test_models_whose_state_a_slot_cannot_hold_are_refused_at_once(make: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        TorchEngine(TorchEngine.Config(), make(), ())  # type: ignore[operator]


class Heedless(LlamaForCausalLM):
    """Takes a mask and does not look at it."""

    def forward(
        self,
        position_ids: object = None,
        past_key_values: object = None,
        logits_to_keep: object = 0,
        **rest: object,
    ) -> object:
        mask = rest.pop("attention_mask", None)
        return super().forward(
            position_ids=position_ids,
            past_key_values=past_key_values,
            logits_to_keep=logits_to_keep,
            attention_mask=mask * 0 if mask is not None else None,
            **rest,
        )


def test_a_model_that_answers_otherwise_in_company_is_refused_at_once() -> None:
    torch.manual_seed(0)
    with pytest.raises(UserError, match="answers otherwise in a batch of slots than alone"):
        TorchEngine(TorchEngine.Config(), Heedless(tiny_model("llama").config), ())


def test_an_engine_without_a_model_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a model"):
        TorchEngine(TorchEngine.Config(), None, ())


def test_a_longer_limit_only_prolongs_a_completion() -> None:
    engine = engine_for(tiny_model("llama"))
    for short, long in pairwise([2, 5, 11]):
        few, many = (
            engine.generate(requests_of_all_lengths(6, max_new_tokens=n, stop_token_ids=(NUM_WORDS,)))
            for n in (short, long)
        )
        assert [c.token_ids for c in few] == [c.token_ids[:short] for c in many]
