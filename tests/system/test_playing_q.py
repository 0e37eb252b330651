"""Runs whose actors play a Q function: what travels, is measured, kept and given away is what is played."""

import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from cluster.trained import load_trained, open_chat
from rollout.q_file import read_guide
from rollout.weights import digest, together
from tests.system.fakes_q import guided_recipe
from tests.system.fakes_runs import (
    assert_same_run,
    run_cli,
    save_small_model,
    settings,
    summary,
    updates,
    write_recipe,
)


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return save_small_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def guided(small_model, tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("recipe") / "guided.yaml", guided_recipe(small_model))


@pytest.fixture(scope="module")
def run(guided, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("guided") / "run"
    assert run_cli("train", guided, "--run-dir", run_dir) == 0
    return run_dir


@pytest.fixture(scope="module")
def plain(small_model, tmp_path_factory):
    """The recipe of a run that plays its model alone."""
    recipe = guided_recipe(small_model) | {"algorithm": {"name": "ppo"}}
    recipe["rollout"] |= {"sampling": {"max_new_tokens": 4}, "exploration": {}}
    recipe["run"]["num_updates"] = 1
    return write_recipe(tmp_path_factory.mktemp("recipe") / "plain.yaml", recipe)


def column(run_dir, name):
    return [line[name] for line in updates(run_dir)]


def test_exploration_follows_its_schedules_and_its_target(run):
    assert column(run, "rollout/epsilon") == [0.3, 0.3, 0.0, 0.0]
    assert column(run, "rollout/beta") == [0.0, 2.0, 4.0, 6.0]
    # Over 20 tokens of a random model the entropy is about 3: the control begins at 0.9, and cools.
    temperatures = column(run, "rollout/temperature")
    assert temperatures[0] == 0.9
    assert temperatures == sorted(temperatures, reverse=True)
    assert temperatures[3] < 0.5
    assert column(run, "rollout/entropy")[3] < column(run, "rollout/entropy")[0] - 0.5


def test_what_a_checkpoint_holds_is_what_the_actors_held(run):
    """Model and Q function. Mutation: read the heads that are trained in place of their target copies."""
    trained = load_trained(run)
    assert trained.version == 4
    assert digest(together(trained.model, trained.guide)) == summary(run)["weights_digest"]
    assert float(trained.guide.advantages(torch.randn(5, 32)).detach().std()) > 0.01


def test_eval_agrees_with_the_run_and_plays_the_last_beta_without_exploring(run, capsys):
    assert run_cli("eval", run, "--json") == 0
    assert f'"value": {summary(run)["eval"]["after"]}' in capsys.readouterr().out
    sampling = load_trained(run).sampling
    assert (sampling.beta, sampling.epsilon, sampling.temperature, sampling.top_k) == (8.0, 0.0, 0.9, 20)


def test_what_is_measured_depends_on_the_q_function(guided, run, tmp_path):
    """The same run, measured with the model alone."""
    other = tmp_path / "run"
    assert run_cli("train", guided, "--run-dir", other, *settings(evaluation__beta=0.0)) == 0
    assert_same_run(other, run)
    assert summary(other)["eval"]["before"] == summary(run)["eval"]["before"]
    assert summary(other)["eval"]["after"] != summary(run)["eval"]["after"]


def test_a_run_that_goes_on_from_a_checkpoint_is_the_run_that_never_stopped(run, tmp_path):
    """The controlled temperature goes on from where it was, too."""
    half = tmp_path / "run"
    shutil.copytree(run, half)
    for version in (3, 4):
        shutil.rmtree(half / "checkpoints" / f"step_{version:06d}")
    (half / "summary.json").unlink()
    assert run_cli("resume", half) == 0
    assert_same_run(half, run)
    assert summary(half)["eval"] == summary(run)["eval"]


def test_an_exported_folder_holds_the_model_and_the_q_function_beside_it(run, tmp_path):
    assert run_cli("export", run, tmp_path / "model") == 0
    lm = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    guide, trained = read_guide(tmp_path / "model", lm), load_trained(run)
    states = torch.randn(3, 32)
    assert torch.equal(guide.advantages(states), trained.guide.advantages(states))


def test_a_model_without_a_q_function_is_exported_without_one(plain, tmp_path):
    assert run_cli("train", plain, "--run-dir", tmp_path / "run") == 0
    assert run_cli("export", tmp_path / "run", tmp_path / "model") == 0
    assert not (tmp_path / "model" / "guide.safetensors").exists()


def test_chat_plays_the_q_function_too(run):
    """Greedy: model and Q function together, which after this run is not what the model alone says."""
    answers = [open_chat(run, 0.0)(text) for text in ("12", "97", "40")]
    text = (run / "recipe.yaml").read_text()
    try:
        (run / "recipe.yaml").write_text(text.replace("end: 8.0", "end: 0.0"))
        assert [open_chat(run, 0.0)(text) for text in ("12", "97", "40")] != answers
    finally:
        (run / "recipe.yaml").write_text(text)


def test_check_tells_what_the_q_function_costs_and_takes_a_small_step(guided, capsys):
    assert run_cli("check", guided) == 0
    out = capsys.readouterr().out
    # Full, width 32, hidden 16, 259 words: 2 x (33·16 + 17·259) for Q, 33·16 + 17 for V.
    assert "10,407" in out
    assert "MiB per publication" in out
    assert "small step through every stage" in out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rollout__sampling__beta": 2.0}, ["rollout.sampling.beta is 2.0", "no Q function", "ilql"]),
        ({"evaluation__beta": 2.0}, ["evaluation.beta is 2.0", "no Q function"]),
        (
            {"rollout__exploration__beta": {"start": 0.0, "end": 3.0, "num_updates": 2}},
            ["rollout.exploration.beta is 3.0"],
        ),
        ({"rollout__exploration__epsilon": 0.1}, ["rollout.exploration is set", "entropy coefficient"]),
        ({"rollout__sampling__epsilon": 0.1}, ["sampling.epsilon is 0.1"]),
        ({"rollout__sampling__top_k": 5}, ["sampling.top_k is 5"]),
        ({"rollout__sampling__temperature": 0.0}, ["sampling.temperature is 0.0"]),
    ],
)
def test_ppo_refuses_to_be_played_otherwise_than_it_learns(plain, changes, words, tmp_path, capsys):
    assert run_cli("train", plain, "--run-dir", tmp_path / "run", *settings(**changes)) == 2
    told = capsys.readouterr().err
    assert all(word in told for word in words), told
    assert not (tmp_path / "run").exists()


def test_an_engine_that_cannot_play_q_is_refused(guided, tmp_path, capsys):
    engine = {"name": "tests.rollout.fakes_guides:MuteEngine", "lines": [{"token_ids": [5]}]}
    changes = settings(rollout__engine=engine)
    assert run_cli("train", guided, "--run-dir", tmp_path / "run", *changes) == 2
    assert "rollout.engine 'mute' cannot play the Q function of ilql" in capsys.readouterr().err
