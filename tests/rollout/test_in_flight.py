"""New weights while completions are under way: when they go in, and what every token remembers of it."""

import copy
import time
from threading import Thread

import pytest
import torch
from transformers import PreTrainedModel

from rollout.engines.scripted import Line, ScriptedEngine
from rollout.engines.torch_engine import TorchEngine
from rollout.types import Completion, Request, Sampling, several
from rollout.weights import Weights, pack
from tests.rollout.fakes_engines import NUM_WORDS, logprobs_of, requests_of_all_lengths, tiny_model

DEADLINE_S = 60.0
"""After which a thread that should have come is given up; nothing waits so long unless a test fails."""


class Disturbed(ScriptedEngine):
    """Weights come from another thread while its second step is under way."""

    def disturb(self, weights: Weights) -> None:
        self.num_steps = 0
        self.loading = Thread(target=self.load, args=(weights,))

    def step(self) -> list[tuple[int, Completion]]:
        self.num_steps += 1
        if self.num_steps == 2:
            self.loading.start()
            deadline_s = time.monotonic() + DEADLINE_S
            while not self._turnstile.is_awaited and time.monotonic() < deadline_s:
                time.sleep(0.001)
        return super().step()


def test_weights_that_come_during_a_step_wait_for_its_end_and_go_in_before_the_next() -> None:
    """Mutations: load without the turnstile; a turnstile whose turns do not queue behind visitors."""
    lines = (Line(token_ids=(3, 4, 5, 6, 7)),)
    model = tiny_model("llama")
    engine = Disturbed(ScriptedEngine.Config(lines=lines), copy.deepcopy(model), ())
    engine.policy_version = 0
    engine.disturb(pack(1, model))
    [completion] = engine.generate([Request(token_ids=(1,), sampling=Sampling(max_new_tokens=9), seed=0)])
    engine.loading.join(DEADLINE_S)
    assert completion.policy_versions == (0, 0, 1, 1, 1)


def models(num: int) -> list[PreTrainedModel]:
    return [tiny_model("llama", seed=seed) for seed in range(num)]


def play(engine: TorchEngine, requests: list[Request], versions: list[PreTrainedModel]) -> list[Completion]:
    """All completions, with the next version before every step but the first."""
    tickets = [engine.submit(request) for request in requests]
    done: dict[int, Completion] = {}
    for version, model in enumerate(versions):
        if version:
            engine.load(pack(version, model))
        done.update(engine.step())
    assert not engine.has_work, "the test needs more versions"
    return [done[ticket] for ticket in tickets]


def engine_of(model: PreTrainedModel, num_slots: int, *, keeps_cache: bool = False) -> TorchEngine:
    config = TorchEngine.Config(num_slots=num_slots, keeps_cache=keeps_cache, min_refill=1)
    engine = TorchEngine(config, copy.deepcopy(model), ())
    engine.policy_version = 0
    return engine


def test_every_token_names_the_version_whose_logprob_it_has_through_refills_and_moved_slots() -> None:
    """A version per step, six requests in three slots. Mutations: stamp the version of the first token; leave
    the column of versions behind when rows move; keep the keys and values of older versions."""
    versions = models(40)
    requests = requests_of_all_lengths(6)
    completions = play(engine_of(versions[0], 3), requests, versions)
    assert len({len(c.token_ids) for c in completions}) > 3
    for request, completion in zip(requests, completions, strict=True):
        drawn_by = completion.policy_versions
        assert list(drawn_by) == sorted(set(drawn_by))
        expected = [
            float(logprobs_of(versions[version], request, completion)[place])
            for place, version in enumerate(drawn_by)
        ]
        assert completion.logprobs == pytest.approx(expected, abs=1e-4)
        assert (completion.policy_version_min, completion.policy_version_max) == (drawn_by[0], drawn_by[-1])


def test_where_one_version_drew_all_tokens_none_is_named_twice() -> None:
    [completion] = engine_of(tiny_model("llama"), 1).generate(requests_of_all_lengths(1))
    assert completion.policy_versions == ()
    assert several((-1, 4, 4)) == ()
    assert several((-1, 4, 5)) == (-1, 4, 5)


@torch.no_grad()
def test_a_kept_cache_spares_the_pass_and_the_logprobs_are_those_of_what_was_drawn_from() -> None:
    """The prompt's keys and values are version 0's, the second token's version 1's, and so on: the plain
    computation does the same with a cache of transformers. Mutation: compute the cache anew."""
    versions = [tiny_model("gpt2", seed=seed) for seed in range(4)]
    sampling = Sampling(max_new_tokens=4, stop_token_ids=(NUM_WORDS,))
    request = Request(token_ids=(3, 1, 4, 1, 5), sampling=sampling, seed=0)
    engine = engine_of(versions[0], 1, keeps_cache=True)
    shapes = []
    engine.model.register_forward_pre_hook(  # type: ignore[union-attr]
        lambda _module, _args, options: shapes.append(tuple(options["input_ids"].shape)), with_kwargs=True
    )
    [completion] = play(engine, [request], versions)
    assert shapes == [(1, 5), (1, 1), (1, 1), (1, 1)]
    assert completion.policy_versions == (0, 1, 2, 3)
    cache, fed, expected = None, request.token_ids, []
    for model, token in zip(versions, completion.token_ids, strict=True):
        said = model(input_ids=torch.tensor([fed]), past_key_values=cache, use_cache=True)
        cache, fed = said.past_key_values, (token,)
        expected.append(float(said.logits[0, -1].log_softmax(-1)[token]))
    assert completion.logprobs == pytest.approx(expected, abs=1e-4)
    exact = [float(logprobs_of(m, request, completion)[n]) for n, m in enumerate(versions)]
    assert completion.logprobs != pytest.approx(exact, abs=1e-2)


def test_versions_that_do_not_fit_their_tokens_are_refused() -> None:
    fields = {"token_ids": (5, 6), "logprobs": (-1.0, -1.0), "finish_reason": "stop"}
    for versions in ((1,), (1, 1, 2), (1, 3), (2, 2)):
        with pytest.raises(ValueError, match="2 tokens drawn by versions 1 to 2 cannot be of"):
            Completion(**fields, policy_version_min=1, policy_version_max=2, policy_versions=versions)
