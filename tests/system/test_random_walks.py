"""The random-walks benchmark from end to end, made small; and how its table is read off the runs."""

import json
from pathlib import Path

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.random_walks import Result, read, table
from recipes.make_walks import store, walk_groups
from rollout.letters import build_config, build_tokenizer
from rollout.trajectories import read_parquet
from tests.system.fakes_runs import ROOT, run_cli, settings, summary


@pytest.fixture
def model(tmp_path: Path) -> str:
    """The benchmark's model with one layer."""
    config = GPT2Config(**{**build_config().to_dict(), "n_layer": 1, "n_embd": 24, "n_positions": 16})
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    build_tokenizer().save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


SMALL = {
    "cluster__mode": "inline",
    "warm_up__num_steps": 40,
    "warm_up__lr": 0.01,
    "evaluation__num_samples": 2,
    "metrics__tensorboard": False,
    "metrics__prometheus_port": None,
}


def test_a_recipe_without_updates_is_the_supervised_phase_alone(tmp_path: Path, model: str) -> None:
    recipe, run_dir = ROOT / "recipes" / "walks_bc.yaml", tmp_path / "run"
    changed = settings(model__name=model, data__num_walks=50, **SMALL)
    assert run_cli("train", recipe, "--run-dir", run_dir, *changed) == 0
    told = summary(run_dir)
    assert (told["status"], told["version"], told["samples"], told["reward_last"]) == ("done", 0, 0, None)
    assert told["eval"]["before"] == told["eval"]["after"]
    # 20 first nodes at most, twice each; a random model would not arrive.
    assert 20 < told["eval"]["n"] <= 40
    assert not list(run_dir.glob("trajectories/*"))
    assert run_cli("export", run_dir, tmp_path / "exported") == 0
    assert (tmp_path / "exported" / "model.safetensors").exists()


@pytest.mark.parametrize("recipe", ["ppo", "grpo", "dqn", "sarsa", "soft_q"])
def test_walks_are_played_from_first_nodes_and_end_at_the_goal(
    tmp_path: Path, model: str, recipe: str
) -> None:
    run_dir = tmp_path / "run"
    sizes = {"rollout__groups_per_update": 8, "rollout__groups_per_task": 2, "run__num_updates": 2}
    num_fresh = 8 if recipe in ("ppo", "grpo") else 4
    replay = {} if num_fresh == 8 else {"replay__num_fresh": num_fresh}
    changed = settings(model__name=model, **SMALL, **sizes, **replay, evaluation__every=0)
    assert run_cli("train", ROOT / "recipes" / f"walks_{recipe}.yaml", "--run-dir", run_dir, *changed) == 0
    groups = list(read_parquet(run_dir / "trajectories"))
    assert len(groups) == 2 * num_fresh
    for group in groups:
        assert len(group.prompt.token_ids) == 1
        for played in group.trajectories:
            walk = played.completion_text
            assert len(played.token_ids) <= 10
            assert "a" not in walk[:-1]
            assert (played.finish_reason == "stop") == (played.token_ids[-1] in (1, 2))


def test_logged_walks_are_learned_from_and_none_is_played_but_to_measure(tmp_path: Path, model: str) -> None:
    store(list(walk_groups(1000, 40)), tmp_path / "walks")
    run_dir = tmp_path / "run"
    small = {name: value for name, value in SMALL.items() if not name.startswith("warm_up")}
    sizes = {"rollout__groups_per_update": 8, "run__num_updates": 2, "evaluation__every": 0}
    logged = {"replay__trajectories": [str(tmp_path / "walks")]}
    changed = settings(model__name=model, **small, **sizes, **logged)
    assert run_cli("train", ROOT / "recipes" / "walks_ilql.yaml", "--run-dir", run_dir, *changed) == 0
    told = summary(run_dir)
    assert (told["status"], told["version"], told["samples"]) == ("done", 2, 0)
    assert told["eval"]["n"] > 20


def write_run(folder: Path) -> Path:
    """Four updates of 100 samples, measured at 0, 2 and 4; 10 s, of which 3 went into measurements."""
    folder.mkdir()
    rows = [{"version": 0, "eval/walk": 0.4}]
    for version in range(1, 5):
        rows.append({"version": version, "rollout/samples_total": 100 * version})
        if version % 2 == 0:
            rows.append({"version": version, "eval/walk": 0.5 + 0.1 * version})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = {"eval": {"before": 0.4, "after": 0.9}, "samples": 400, "wall_s": 10.0, "phases_s": {"eval": 3.0}}
    (folder / "summary.json").write_text(json.dumps(told))
    return folder


def test_a_run_is_read_with_the_samples_that_it_needed(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    found = read(folder, "ppo", 1000, target=0.7)
    assert (found.before, found.after, found.num_samples, found.wall_s) == (0.4, 0.9, 400, 7.0)
    assert found.samples_to == 200
    assert read(folder, "ppo", 1000, target=0.4).samples_to == 0
    assert read(folder, "ppo", 1000, target=0.91).samples_to is None


def test_the_table_has_a_line_per_recipe() -> None:
    common = {"before": 0.4, "num_samples": 400, "wall_s": 7.0}
    results = [
        Result(recipe="ppo", seed=1000, after=0.9, samples_to=200, **common),
        Result(recipe="ppo", seed=1002, after=0.8, samples_to=None, **common),
        Result(recipe="bc", seed=1000, after=0.4, samples_to=None, **common),
    ]
    ppo, bc = table(results, 0.85).splitlines()[2:]
    assert ppo == "| ppo | 2 | 0.400 | 0.850 (0.800) | 200 (1 of 2) | 400 | 7 |"
    assert bc == "| bc | 1 | 0.400 | 0.400 (0.400) | never | 400 | 7 |"
