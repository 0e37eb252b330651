"""The Wordle benchmark from end to end, made small; and how its table is read off the runs."""

from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.wordle import Row, measure, played_with, read_logged, table
from cluster.recipe import load_recipe
from recipes.make_wordle import games, store, write_words
from rollout.trajectories import read_parquet
from rollout.wordle_letters import build_config, build_tokenizer
from tests.system.fakes_runs import ROOT, run_cli, settings, summary

WORDS = ("about", "apple", "chair", "crane", "house", "slate", "stale", "water")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The benchmark's model with one small layer."""
    folder = tmp_path_factory.mktemp("model")
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
    shape = {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 24, **heads}
    LlamaForCausalLM(LlamaConfig(**{**build_config().to_dict(), **shape})).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wordle")
    path = write_words(WORDS, folder)
    store(list(games(path, 40, seed=0)), folder)
    return folder


def small(model: str, data: Path, **changes: Any) -> list[str]:
    words = str(data / "words.txt")
    return settings(
        model__name=model,
        data__words=words,
        rollout__environment__words=words,
        run__num_updates=2,
        rollout__groups_per_update=8,
        evaluation__num_samples=2,
        metrics__tensorboard=False,
        metrics__prometheus_port=None,
        cluster__mode="inline",
        **changes,
    )


@pytest.mark.parametrize("recipe", ["ilql", "bc"])
def test_logged_games_are_learned_from_and_none_is_played_but_to_measure(
    tmp_path: Path, model: str, data: Path, recipe: str
) -> None:
    run_dir = tmp_path / "run"
    changed = small(model, data, replay__trajectories=[str(data)])
    assert run_cli("train", ROOT / "recipes" / f"wordle_{recipe}.yaml", "--run-dir", run_dir, *changed) == 0
    told = summary(run_dir)
    assert (told["status"], told["version"], told["samples"], told["eval"]["n"]) == ("done", 2, 0, 16)
    # The table's row is the run's own measurement where neither β nor the number of games is another.
    row = measure(run_dir, recipe, 0, None, 2)
    assert (row.num_games, row.score) == (16, told["eval"]["after"])
    assert 0.0 <= row.won <= 1.0


def test_games_are_played_online(tmp_path: Path, model: str, data: Path) -> None:
    """By PPO, whose model says no words yet: each guess is answered by XXXXX."""
    run_dir = tmp_path / "run"
    changed = small(model, data, algorithm={"name": "ppo"}, replay={"name": "queue"}, evaluation__beta=None)
    assert run_cli("train", ROOT / "recipes" / "wordle_ilql.yaml", "--run-dir", run_dir, *changed) == 0
    groups = list(read_parquet(run_dir / "trajectories"))
    assert {group.prompt.reference for group in groups} == set(WORDS)
    for group in groups:
        (played,) = group.trajectories
        assert played.finish_reason == "stop"
        assert played.completion_text.count("XXXXX") >= 5
        assert sum(played.action_mask) <= 30
        assert dict(group.scores[0].parts) == {"wordle": -6.0, "won": 0.0}


def test_words_that_are_not_there_are_told_before_anything_starts(
    tmp_path: Path, model: str, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    changed = small(model, data, replay__trajectories=[str(data)])
    changed += settings(data__words=str(tmp_path / "absent.txt"))
    recipe, run_dir = ROOT / "recipes" / "wordle_ilql.yaml", tmp_path / "run"
    assert run_cli("train", recipe, "--run-dir", run_dir, *changed) == 2
    assert "recipes.make_wordle" in capfd.readouterr().err
    (tmp_path / "others.txt").write_text("zebra\n")
    changed += settings(data__words=str(tmp_path / "others.txt"))
    assert run_cli("train", recipe, "--run-dir", run_dir, *changed) == 2
    assert "'zebra', is not in" in " ".join(capfd.readouterr().err.split())
    assert not run_dir.exists()


def test_the_logged_games_have_a_row_of_their_own(data: Path) -> None:
    row = read_logged(data, seed=3)
    scores = [group.scores[0].value for group in read_parquet(data / "trajectories")]
    assert (row.seed, row.num_games, row.score) == (3, 40, sum(scores) / 40)
    assert row.won == sum(score != -6.0 for score in scores) / 40


def test_a_model_is_measured_with_the_beta_of_its_recipe_or_another() -> None:
    recipe = load_recipe(ROOT / "recipes" / "wordle_ilql.yaml")
    for beta, expected in ((None, 12.0), (0.0, 0.0), (3.0, 3.0)):
        changed = played_with(recipe, beta, 7)
        assert (changed.evaluation.beta, changed.evaluation.num_samples) == (expected, 7)
        assert changed.evaluation.sampling(changed.rollout.settled).beta == expected


def test_the_table_has_a_line_per_player() -> None:
    rows = [
        Row(who="the logged games", seed=0, score=-4.0, won=0.5, num_games=40, wall_s=0.0),
        Row(who="ilql", seed=0, score=-3.0, won=0.75, num_games=40, wall_s=100.0),
        Row(who="ilql", seed=1, score=-2.0, won=0.85, num_games=40, wall_s=120.0),
    ]
    logged, ilql = table(rows).splitlines()[2:]
    assert logged == "| the logged games | 1 | -4.00 (-4.00 to -4.00) | 50.0% | – |"
    assert ilql == "| ilql | 2 | -2.50 (-3.00 to -2.00) | 80.0% | 110 |"
