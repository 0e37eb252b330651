"""What every environment owes its callers, run over all of them with a real engine and real tokens."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from antiphon.plugins import built_in
from rollout.encoding import Encoder, EncodingConfig
from rollout.engines.torch_engine import TorchEngine
from rollout.environments.base import Environment
from rollout.environments.single_turn import SingleTurn
from rollout.environments.wordle import Wordle
from rollout.player import Player
from rollout.prompts import Example
from rollout.types import Completion, Prompt, Request, Sampling, Task, Trajectory, Turn
from rollout.wordle_letters import build_config, build_tokenizer

WORDS = ("apple", "crane", "slate")
MAX_NEW_TOKENS = 5
LOGPROBS = (-1.0,) * 5


def make_single_turn(folder: Path) -> Environment:
    return SingleTurn(SingleTurn.Config())


def make_wordle(folder: Path) -> Environment:
    (folder / "words.txt").write_text("\n".join(WORDS))
    return Wordle(Wordle.Config(words=folder / "words.txt", max_tokens=60))


MAKERS = {"single_turn": make_single_turn, "wordle": make_wordle}


@pytest.fixture(params=MAKERS)
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> Environment:
    return MAKERS[request.param](tmp_path)


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    """The shape of llama-wordle with one small layer, and distributions far from uniform."""
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
    shape = {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 24, **heads}
    more = {"max_position_embeddings": 80, "initializer_range": 0.6}
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**{**build_config().to_dict(), **shape, **more})).eval()


class Speller:
    """Draws as the engine does, but spells a word of the list at every other request."""

    def __init__(self, engine: TorchEngine) -> None:
        self._engine = engine

    def generate(self, requests: list[Request]) -> list[Completion]:
        words = [build_tokenizer()(word).input_ids for word in WORDS]
        return [
            replace(
                drawn, token_ids=tuple(words[request.seed % 3]), logprobs=LOGPROBS, finish_reason="length"
            )
            if request.seed % 2
            else drawn
            for request, drawn in zip(requests, self._engine.generate(requests), strict=True)
        ]


@pytest.fixture(params=["drawn", "spelled"])
def player(request: pytest.FixtureRequest, environment: Environment, model: LlamaForCausalLM) -> Player:
    engine = TorchEngine(TorchEngine.Config(num_slots=5), deepcopy(model), (1,))
    engine.policy_version = 0
    text = encoder()
    return Player(engine if request.param == "drawn" else Speller(engine), environment, text)  # type: ignore[arg-type]


def encoder() -> Encoder:
    return Encoder(EncodingConfig(), build_tokenizer(), context_length=80, max_new_tokens=60)


def prompt(answer: str) -> Prompt:
    return encoder().encode(Example(id=answer, content=">", reference=answer))


def task(*places: int, num_samples: int = 6, seed: int = 0) -> Task:
    turns = tuple(Turn(epoch=0, index=i, prompt=prompt(WORDS[i % 3])) for i in places)
    sampling = Sampling(max_new_tokens=MAX_NEW_TOKENS)
    return Task(id=0, turns=turns, num_samples=num_samples, sampling=sampling, policy_version=0, seed=seed)


def rows(player: Player, wanted: Task) -> list[Trajectory]:
    return [row for _, own in player.play(wanted) for row in own]


def test_every_environment_is_under_contract() -> None:
    assert set(built_in(Environment, "rollout.environments")) == set(MAKERS)


def test_a_trajectory_is_in_order_whatever_was_said(player: Player, environment: Environment) -> None:
    for row in rows(player, task(0, 1, 2)):
        assert len(row.token_ids) == len(row.action_mask) == len(row.logprobs)
        assert not row.action_mask[0]
        assert row.action_mask[-1]
        assert all(
            p <= 0.0 if drawn else p == 0.0 for p, drawn in zip(row.logprobs, row.action_mask, strict=True)
        )
        assert len(row.token_ids) - 1 <= environment.max_tokens(MAX_NEW_TOKENS)
        assert row.completion_text == encoder().decode(row.token_ids[1:])


def test_it_can_be_played_again_from_the_trajectory_alone(player: Player, environment: Environment) -> None:
    """What stands between the actions is what the environment says to them, and the end is its own."""
    for number, row in enumerate(rows(player, task(0, 1, 2))):
        state, left = environment.start(prompt(WORDS[number // 6]), seed=0), list(row.token_ids[1:])
        mask = list(row.action_mask[1:])
        for _ in range(environment.max_turns):
            # In these games nobody says fewer than five tokens but by an end token.
            size = left.index(1) + 1 if 1 in left[:MAX_NEW_TOKENS] else MAX_NEW_TOKENS
            assert all(mask[:size])
            action = encoder().decode(left[:size])
            step = environment.step(state, action, is_cut=left[size - 1] != 1)
            assert environment.step(state, action, is_cut=left[size - 1] != 1) == step
            state, left, mask = step.state, left[size:], mask[size:]
            if step.observation is None:
                break
            observed = encoder().observation_ids(step.observation, last=0)
            assert tuple(left[: len(observed)]) == observed
            assert not any(mask[: len(observed)])
            left, mask = left[len(observed) :], mask[len(observed) :]
        assert left == []
        assert (row.finish_reason == "stop") == step.is_done


def test_a_dialogue_does_not_depend_on_its_neighbours(player: Player) -> None:
    together = rows(player, task(0, 1, 2))
    alone = [row for place in (0, 1, 2) for row in rows(player, task(place))]
    assert [r.token_ids for r in together] == [r.token_ids for r in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


def test_the_same_seed_gives_the_same_dialogue_and_another_another(player: Player) -> None:
    first = [row.token_ids for row in rows(player, task(0, 1))]
    assert [row.token_ids for row in rows(player, task(0, 1))] == first
    assert [row.token_ids for row in rows(player, task(0, 1, seed=1))] != first


def test_behaviour_logprobs_are_the_models_own_behind_all_that_was_said_before(
    environment: Environment, model: LlamaForCausalLM
) -> None:
    """The state before a token is the one behind the observation, though nobody drew that."""
    engine = TorchEngine(TorchEngine.Config(), deepcopy(model), (1,))
    engine.policy_version = 0
    for row in rows(Player(engine, environment, encoder()), task(0, 1)):
        ids = torch.tensor([row.token_ids])
        with torch.no_grad():
            logprobs = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None]).squeeze(1)
        expected = torch.where(torch.tensor(row.action_mask[1:]), logprobs, 0.0)
        torch.testing.assert_close(torch.tensor(row.logprobs[1:]), expected, atol=1e-4, rtol=1e-4)
