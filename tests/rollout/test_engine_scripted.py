import pytest
from pydantic import ValidationError

from rollout.engines.scripted import Line, ScriptedEngine
from rollout.types import Request, Sampling
from rollout.weights import pack
from tests.rollout.fakes_engines import tiny_model


def engine(*lines: Line, eos: tuple[int, ...] = (2,)) -> ScriptedEngine:
    made = ScriptedEngine(ScriptedEngine.Config(lines=lines), None, eos)
    made.policy_version = 0
    return made


def ask(*prompt: int, seed: int = 0, max_new_tokens: int = 10) -> Request:
    return Request(token_ids=prompt, sampling=Sampling(max_new_tokens=max_new_tokens), seed=seed)


def test_a_line_of_its_own_answers_a_prompt_before_a_line_for_all() -> None:
    made = engine(Line(token_ids=(9,)), Line(prompt=(1,), token_ids=(8, 2), logprobs=(-1.0, -2.0)))
    own, other = made.generate([ask(1), ask(3)])
    assert (own.token_ids, own.logprobs, own.finish_reason) == ((8, 2), (-1.0, -2.0), "stop")
    assert (other.token_ids, other.logprobs, other.finish_reason) == ((9,), (0.0,), "length")


def test_the_seed_chooses_among_the_lines() -> None:
    made = engine(Line(token_ids=(5,)), Line(token_ids=(6,)), Line(token_ids=(7,)))
    assert [c.token_ids[0] for c in made.generate([ask(1, seed=s) for s in (0, 1, 2, 3)])] == [5, 6, 7, 5]


def test_a_line_is_cut_at_a_stop_token_or_at_the_length_asked_for() -> None:
    made = engine(Line(token_ids=(5, 2, 6)), Line(token_ids=(5, 6, 7, 2)))
    stopped, cut = made.generate([ask(1, seed=0), ask(1, seed=1, max_new_tokens=3)])
    assert (stopped.token_ids, stopped.finish_reason) == ((5, 2), "stop")
    assert (cut.token_ids, cut.finish_reason) == ((5, 6, 7), "length")


def test_one_token_a_step() -> None:
    made = engine(Line(token_ids=(5, 6, 2)))
    ticket = made.submit(ask(1))
    assert made.step() == made.step() == []
    assert [done for done, _ in made.step()] == [ticket]


def test_without_a_model_it_echoes_the_digest_it_was_sent() -> None:
    made, weights = engine(Line(token_ids=(5,))), pack(3, tiny_model("llama"))
    assert made.load(weights) == weights.digest
    assert made.policy_version == 3


def test_a_prompt_without_a_line_and_a_line_without_enough_logprobs_are_refused() -> None:
    with pytest.raises(ValueError, match="no line for the prompt"):
        engine(Line(prompt=(1,), token_ids=(5,))).submit(ask(4))
    with pytest.raises(ValidationError, match="2 token_ids need as many logprobs, got 1"):
        Line(token_ids=(5, 6), logprobs=(-1.0,))
