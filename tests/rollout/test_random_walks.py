"""Prompts, model and logged data of the random-walks benchmark."""

import json
import math
import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from antiphon.errors import UserError
from antiphon.settings import parse
from recipes.make_walks import store, walk_groups
from reward_service.walk_graph import NODES, draw_walks, graph_of
from rollout.engines.torch_engine import TorchEngine
from rollout.fingerprint import fingerprint
from rollout.models import ModelConfig, eos_token_ids, load_config, load_model, load_tokenizer, max_context
from rollout.prompts import Split, read_source
from rollout.trajectories import read_parquet
from rollout.types import Request, Sampling

MODEL = ModelConfig(name="gpt2-walks")


def read(**section: Any) -> Split:
    return read_source({"name": "random_walks", **section}, "data")


def test_each_walk_is_taught_and_each_first_node_is_measured() -> None:
    split = read(seed=1002)
    assert [e.content + (e.reference or "") for e in split.train] == draw_walks(1002, 1000)
    assert [e.content for e in split.held_out] == list(NODES[1:])
    examples = [*split.train, *split.held_out]
    assert len({e.id for e in examples}) == len(examples)
    assert all(json.loads(json.dumps(e.metadata)) == {"graph_seed": 1002} for e in examples)
    assert {e.reference for e in split.held_out} == {None}


def test_of_few_walks_only_their_first_nodes_are_measured() -> None:
    # sda, fda, ebjnbdtkna
    split = read(num_walks=3)
    assert [e.content for e in split.held_out] == ["e", "f", "s"]
    assert read(num_walks=3) == split
    assert read(num_walks=3, seed=1002) != split


def test_a_graph_that_cannot_be_solved_is_refused() -> None:
    with pytest.raises(UserError, match=r"data.seed 1001 the goal cannot be reached from b, c, d") as caught:
        read(seed=1001)
    assert "1000, 1002" in caught.value.remedy
    with pytest.raises(UserError, match=r"data.seed is -1"):
        read(seed=-1)


def test_only_a_closed_split_may_measure_on_what_it_trains_on() -> None:
    train = read(num_walks=5).train
    assert Split(train=train, held_out=train, is_closed=True).held_out == train
    with pytest.raises(ValueError, match="5 held-out examples are in train too"):
        Split(train=train, held_out=train)


def test_the_tokenizer_has_a_token_per_node() -> None:
    tokenizer = load_tokenizer(MODEL)
    assert tokenizer(NODES).input_ids == list(range(2, 23))
    assert tokenizer("<eos>b<pad>").input_ids == [1, 3, 0]
    assert tokenizer.decode([3, 5, 2, 1], skip_special_tokens=True) == "bda"
    assert tokenizer("b d?A").input_ids == [3, 5]
    assert len(tokenizer) == load_config(MODEL).vocab_size == 23


def test_the_model_has_the_size_of_the_benchmark_and_is_made_by_its_seed_alone() -> None:
    before = torch.random.get_rng_state()
    one, same, other = load_model(MODEL, 1), load_model(MODEL, 1), load_model(MODEL, 2)
    assert torch.equal(before, torch.random.get_rng_state())
    # Words 23 x 144, positions 1024 x 144, 6 layers of 12 x 144² + 13 x 144, a norm of 2 x 144.
    assert sum(p.numel() for p in one.parameters()) == 3_312 + 147_456 + 6 * 250_704 + 288
    assert (load_config(MODEL).n_layer, load_config(MODEL).n_embd) == (6, 144)
    assert not one.training
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.get_input_embeddings().weight, other.get_input_embeddings().weight)
    half = parse(ModelConfig, {"name": "gpt2-walks", "dtype": "bfloat16", "attn_implementation": "eager"})
    assert (load_model(half).dtype, load_model(half).config._attn_implementation) == (torch.bfloat16, "eager")


def test_the_model_survives_save_and_load(tmp_path: Path) -> None:
    model, tokenizer = load_model(MODEL), load_tokenizer(MODEL)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    stored = ModelConfig(name=str(tmp_path))
    again, tokens = load_model(stored), load_tokenizer(stored)
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    )
    assert tokens("bda").input_ids == [3, 5, 2]
    assert tokens.decode([3, 5, 2]) == "bda"


def test_the_built_in_engine_plays_the_model_until_the_goal() -> None:
    model, tokenizer = load_model(MODEL), load_tokenizer(MODEL)
    assert (eos_token_ids(tokenizer, model), max_context(load_config(MODEL))) == ((1,), 1024)
    engine = TorchEngine(TorchEngine.Config(), model, (1,))
    engine.policy_version = 0
    sampling = Sampling(max_new_tokens=9, stop_token_ids=(1, 2))
    played = engine.generate([Request(token_ids=(3,), sampling=sampling, seed=seed) for seed in range(40)])
    assert {c.finish_reason for c in played} == {"stop", "length"}
    for completion in played:
        has_stopped = completion.token_ids[-1] in (1, 2)
        assert (completion.finish_reason == "stop") == has_stopped
        assert has_stopped or len(completion.token_ids) == 9
        assert not {1, 2} & set(completion.token_ids[:-1])


def test_logged_walks_are_groups_as_if_a_uniform_policy_had_played_them(tmp_path: Path) -> None:
    groups, graph = list(walk_groups(1000, 100)), graph_of(1000)
    walks = draw_walks(1000, 100)
    assert len({g.key for g in groups}) == 100
    for group, walk in zip(groups, walks, strict=True):
        (played,) = group.trajectories
        assert played.token_ids == tuple(NODES.index(node) + 2 for node in walk)
        assert played.action_mask == (False,) + (True,) * (len(walk) - 1)
        # Three edges lead away from b: log 1/3.
        expected = [math.log(1 / len(graph.successors[a])) for a, _ in pairwise(walk)]
        assert played.logprobs == pytest.approx([0.0, *expected])
        assert played.finish_reason == ("stop" if walk[-1] == "a" else "length")
        assert played.completion_text == walk[1:]
        assert group.scores[0].value == group.scores[0].parts["walk"] == graph.optimality(walk)
    path = store(groups, tmp_path)
    assert list(read_parquet(tmp_path / "trajectories")) == groups
    metadata = pq.read_schema(path).metadata
    assert metadata[b"tokenizer"].decode() == fingerprint(load_tokenizer(MODEL))


def test_the_logged_walks_score_what_the_benchmark_says() -> None:
    scores = [group.scores[0].value or 0.0 for group in walk_groups(1002, 1000)]
    assert statistics.fmean(scores) == pytest.approx(0.7902, abs=5e-5)


def test_no_walks_are_logged_of_a_graph_that_cannot_be_solved() -> None:
    with pytest.raises(UserError, match="cannot be reached"):
        list(walk_groups(1001, 10))
