"""What a run has made, taken up again: measured, talked to, or written as a plain Hugging Face folder.

Reads the policy out of the newest whole checkpoint; no optimizer, no replay, no Ray.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import PreTrainedModel

from antiphon.errors import UserError
from antiphon.seeds import derive
from cluster.checkpoints import read_manifest
from cluster.evaluation import Evaluator
from cluster.inline import InlineRollouts
from cluster.parts import build_engine, model_seed
from cluster.plan import build_encoder, prepare
from cluster.ports import Delivery
from cluster.recipe import Recipe, load_recipe, parse_recipe
from cluster.run_dir import RunDir
from cluster.train import newest_checkpoint
from reward_service.opening import open_rewards
from rollout.models import load_model, load_tokenizer
from rollout.prompts import Example
from rollout.types import Request
from rollout.worker import Worker

POLICY = "model/lm."
"""How the names of the policy's tensors begin in a checkpoint; the rest are heads, moments, the reference."""


def load_subject(path: Path) -> tuple[Recipe, PreTrainedModel, int]:
    """The model of a run, or the untrained model of a recipe file, with recipe and policy version.

    Raises:
        UserError: neither can be read.
    """
    if path.is_file():
        recipe = load_recipe(path)
        return recipe, load_model(recipe.model, model_seed(recipe)).float(), 0
    return load_trained(path)


def load_trained(run: Path) -> tuple[Recipe, PreTrainedModel, int]:
    """The recipe of a run, the model of its newest whole checkpoint, and the version of it.

    Raises:
        UserError: there is no run, or no usable checkpoint.
    """
    recipe = parse_recipe(RunDir(run).load_recipe())
    checkpoint = newest_checkpoint(RunDir(run))
    model = load_model(recipe.model, model_seed(recipe)).float()
    own = model.state_dict()
    with torch.no_grad():
        for name, tensor in _policy_tensors(checkpoint):
            own[name].copy_(tensor)
    return recipe, model, int(read_manifest(checkpoint)["version"])


def measure(path: Path) -> dict[str, Any]:
    """The held-out metric of a run's newest checkpoint, or of a recipe's model before any training.

    Prompts and seeds are those that the run itself measures with.
    """
    recipe, model, version = load_subject(path)
    plan = prepare(recipe)
    engine = build_engine(recipe, model.to(getattr(torch, recipe.rollout.weights_dtype)))
    engine.policy_version = version
    worker = Worker(engine, open_rewards(plan.recipe.reward), plan.encoder.decode)
    evaluator = Evaluator(
        recipe.evaluation, plan.held_out, recipe.rollout.sampling, recipe.run.seed, itertools.count()
    )
    tasks = evaluator.make_tasks(version)
    rollouts = InlineRollouts(worker, recipe.rollout.num_threads, len(tasks))
    for task in tasks:
        rollouts.submit(task)
    arrivals = [arrival for _ in tasks for arrival in rollouts.collect()]
    measured = evaluator.measure([a.report for a in arrivals if isinstance(a, Delivery)])
    return {"metric": measured.metric, "value": measured.value, "n": measured.n, "version": version}


def open_chat(run: Path, temperature: float) -> Callable[[str], str]:
    """A function from a prompt, in the words of the run's data, to the model's completion."""
    recipe, model, version = load_trained(run)
    encoder = build_encoder(recipe)
    engine = build_engine(recipe, model)
    engine.policy_version = version
    sampling = recipe.rollout.sampling.model_copy(update={"temperature": temperature})
    numbers: Iterator[int] = itertools.count()

    def answer(text: str) -> str:
        number = next(numbers)
        prompt = encoder.encode(Example(id=f"chat/{number}", content=text))
        request = Request(
            token_ids=prompt.token_ids, sampling=sampling, seed=derive(recipe.run.seed, "chat", number)
        )
        (completion,) = engine.generate([request])
        return prompt.prefill + encoder.decode(completion.token_ids)

    return answer


def export_model(run: Path, folder: Path) -> int:
    """Write model and tokenizer of the newest checkpoint into a new folder; returns the version.

    Raises:
        UserError: the folder is there and not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty", remedy="give a new folder: nothing is overwritten")
    recipe, model, version = load_trained(run)
    model.save_pretrained(folder)
    load_tokenizer(recipe.model).save_pretrained(folder)
    return version


def _policy_tensors(checkpoint: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """The policy's tensors by their names in the model, one in memory at a time."""
    with safe_open(checkpoint / "learner.safetensors", framework="pt") as file:
        for key in file.keys():  # noqa: SIM118  not a dict: it has no other way to list its names
            if key.startswith(POLICY):
                yield key.removeprefix(POLICY), file.get_tensor(key)
