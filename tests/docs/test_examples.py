"""The files shown in the documents are complete and do what is said of them."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from rich.console import Console

from antiphon.plugins import find
from cluster.plan import prepare
from cluster.progress import Progress
from cluster.recipe import parse_recipe
from cluster.run_dir import RunDir
from cluster.start_or_resume import start_run
from learner.algorithms.base import Algorithm
from learner.batch import Batch
from learner.learner import Learner, LearnerConfig
from reward_service.config import RewardConfig
from reward_service.local import LocalClient
from reward_service.reward import Reward
from reward_service.types import Sample
from rollout.engines.base import Engine
from rollout.environments.base import Environment
from rollout.prompts import PromptSource
from rollout.types import Prompt, Request, Sampling
from tests.learner.fakes_groups import random_groups
from tests.learner.fakes_models import VOCAB_SIZE, tiny_llama

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / "extending.md", ROOT / "docs" / "algorithms.md"]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"# (\S+\.py)\n")


def blocks() -> list[str]:
    return [block for page in PAGES for block in BLOCK.findall(page.read_text())]


def files() -> dict[str, str]:
    """Path -> text of every file that a document shows."""
    return {match.group(1): block for block in blocks() if (match := NAMED.match(block))}


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The files lie where their first lines say, found by folder and by import path."""
    before = set(sys.modules)
    for name, text in files().items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if path.parent != tmp_path:
            package = importlib.import_module(str(Path(name).parent).replace("/", "."))
            folder = str(path.parent)
            if folder not in package.__path__:
                monkeypatch.setattr(package, "__path__", [*package.__path__, folder])
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_every_block_of_python_names_its_file_so_that_it_is_run() -> None:
    assert len(blocks()) == len(files()) == 7


def test_the_reward_is_found_by_its_name_and_scores(shown: None) -> None:
    config = RewardConfig.model_validate_json('{"components": [{"name": "shouting", "factor": 2.0}]}')
    scores = LocalClient(config).score([Sample(id="a", prompt="", completion="ABcd 12")])
    # 2 capitals of 4 letters, times 2.
    assert scores[0].value == 1.0


def test_the_function_is_found_by_its_import_path_and_scores(shown: None) -> None:
    section = '{"components": [{"name": "my_rewards:mentions", "word": "please"}]}'
    rubric = LocalClient(RewardConfig.model_validate_json(section))
    scores = rubric.score([Sample(id="a", prompt="", completion=text) for text in ("Yes, please",)])
    assert [score.value for score in scores] == [1.0]


def test_the_source_gives_every_sum_once(shown: None) -> None:
    source = find(PromptSource, "rollout.sources", "addition")
    split = source(source.Config(largest=3, num_held_out=5)).examples()
    # 4 x 4 sums, of which 5 are held out.
    assert (len(split.train), len(split.held_out)) == (11, 5)
    assert {e.content: e.reference for e in (*split.train, *split.held_out)}["3+2="] == "5"


def test_the_environment_answers_until_the_number_is_found_or_guesses_run_out(shown: None) -> None:
    kind = find(Environment, "rollout.environments", "higher_lower")
    environment = kind(kind.Config(num_guesses=3))
    state = environment.start(Prompt(id="a", token_ids=(1,), text="", reference="42"), seed=0)
    steps = []
    for guess in ("50", "seven", "42"):
        steps.append(environment.step(state, guess, is_cut=True))
        state = steps[-1].state
    assert [(s.observation, s.is_done) for s in steps] == [
        (" lower\n", False),
        (" higher\n", False),
        (None, True),
    ]
    assert environment.step(steps[1].state, "41", is_cut=True).is_done


def test_the_engine_keeps_to_seed_stop_token_and_length(shown: None) -> None:
    kind = find(Engine, "rollout.engines", "uniform")
    engine = kind(kind.Config(num_tokens=4), None, (3,))
    engine.policy_version = 7
    asked = [
        Request(token_ids=(1,), sampling=Sampling(max_new_tokens=6), seed=seed) for seed in (*range(20), 0)
    ]
    drawn = engine.generate(asked)
    assert drawn[0] == drawn[-1]
    assert {c.finish_reason for c in drawn} == {"stop", "length"}
    for completion in drawn:
        assert (3 in completion.token_ids) == (completion.finish_reason == "stop")
        assert 3 not in completion.token_ids[:-1]
        assert completion.logprobs == (pytest.approx(-1.3862944),) * len(completion.token_ids)


def test_the_credit_is_the_sign_and_0_in_a_constant_group(shown: None) -> None:
    kind = find(Algorithm, "learner.algorithms", "my_algorithms:Sign")
    advantage = kind(kind.Config()).advantage(
        torch.tensor([0.0, 0.0, 9.0, 5.0, 5.0], dtype=torch.float64), torch.tensor([0, 0, 0, 1, 1])
    )
    # Means 3 and 5.
    assert advantage.tolist() == [-1.0, -1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("path", ["my_algorithms:Sign", "reinforce"])
def test_a_learner_learns_by_the_algorithm(shown: None, path: str) -> None:
    kind = find(Algorithm, "learner.algorithms", path)
    lm = tiny_llama()
    learner = Learner(
        LearnerConfig(max_mismatch=None, num_threads=1),
        kind(kind.Config()),
        lm,
        sampling=Sampling(),
        num_updates=1,
        seed=0,
    )
    before = lm.get_input_embeddings().weight.detach().clone()
    metrics = learner.update(random_groups(3, 2, vocab_size=VOCAB_SIZE))
    assert metrics["num_steps"] == 1.0
    assert not torch.equal(lm.get_input_embeddings().weight, before)


def test_the_loss_is_the_sum_of_score_times_log_prob(shown: None) -> None:
    kind = find(Algorithm, "learner.algorithms", "reinforce")
    algorithm = kind(kind.Config())
    batch = algorithm.prepare(Batch.from_groups(random_groups(1, 2)))
    logprob = torch.where(batch.action_mask, -2.0, 0.0)
    term = algorithm.loss({"logprob": logprob}, batch)["loss/policy"]
    tokens = batch.action_mask.sum(dim=1).double()
    assert float(term.total) == pytest.approx(float((2.0 * tokens * batch.score).sum()), rel=1e-5)


def test_a_run_is_made_of_them(shown: None, tmp_path: Path) -> None:
    text = """
    run: {name: shown, num_updates: 1}
    data: {name: addition, largest: 9, num_held_out: 4}
    rollout: {num_actors: 1, groups_per_update: 2, num_samples: 2, sampling: {max_new_tokens: 4}}
    reward: {components: [{name: shouting}, {name: "my_rewards:mentions", word: please}]}
    algorithm: {name: "my_algorithms:Sign"}
    learner: {num_threads: 1}
    evaluation: {num_prompts: 2}
    metrics: {tensorboard: false, prometheus_port: null}
    cluster: {mode: inline}
    """
    recipe = parse_recipe(yaml.safe_load(text))
    with (tmp_path / "log").open("w") as log:
        progress = Progress(Console(file=log), "shown", 1)
        outcome = start_run(prepare(recipe), RunDir(tmp_path / "run"), progress)
    assert outcome.status == "done"
    assert outcome.summary["samples"] == 4


def test_blocks_of_yaml_name_only_plug_ins_that_are_there(shown: None) -> None:
    kinds: dict[str, tuple[type, str]] = {
        "data": (PromptSource, "rollout.sources"),
        "algorithm": (Algorithm, "learner.algorithms"),
    }
    of_rollout: dict[str, tuple[type, str]] = {
        "engine": (Engine, "rollout.engines"),
        "environment": (Environment, "rollout.environments"),
    }
    text = (ROOT / "docs" / "extending.md").read_text()
    for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        section = yaml.safe_load(block)
        for key, (base, folder) in kinds.items():
            if key in section:
                find(base, folder, section[key]["name"])
        if "rollout" in section:
            for key, (base, folder) in of_rollout.items():
                if key in section["rollout"]:
                    find(base, folder, section["rollout"][key]["name"])
        for component in section.get("reward", {}).get("components", []):
            find(Reward, "reward_service.components", component["name"])
