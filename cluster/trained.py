"""What a run has made, taken up again: measured, talked to, or written as a plain Hugging Face folder.

Reads what is played out of the newest whole checkpoint; no optimizer, no replay, no Ray.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel

from antiphon.errors import UserError
from antiphon.seeds import derive
from cluster.checkpoints import read_manifest
from cluster.evaluation import Evaluator
from cluster.inline import InlineRollouts
from cluster.parts import build_engine, build_guide, build_worker, model_seed
from cluster.plan import build_algorithm, build_encoder, prepare
from cluster.ports import Delivery
from cluster.recipe import Recipe, load_recipe, parse_recipe
from cluster.run_dir import RunDir
from cluster.train import newest_checkpoint
from learner.tensors import copy_into
from reward_service.opening import open_rewards
from rollout.engines.base import Engine
from rollout.models import load_model, load_tokenizer
from rollout.prompts import Example
from rollout.q_file import write_guide
from rollout.q_function import QFunction
from rollout.reports import TaskReport
from rollout.types import Request, Sampling

MODEL, HEADS = "model/lm.", "model/heads."
"""How the names of the model's tensors and of its heads' begin in a checkpoint; the rest are moments, the
reference, and what else learns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Something that can be played."""

    recipe: Recipe
    model: PreTrainedModel
    guide: QFunction | None
    """The Q function that is played beside the model, where the algorithm has one."""
    version: int
    """Of the policy."""

    def engine(self, dtype: torch.dtype = torch.float32) -> Engine:
        """An engine that plays it as an actor does to which it travelled in this type."""
        guide = None if self.guide is None else self.guide.to(dtype).float()
        nn.Module.to(self.model, dtype)
        engine = build_engine(self.recipe, self.model, guide)
        engine.policy_version = self.version
        return engine

    @property
    def sampling(self) -> Sampling:
        """As the run's evaluation draws."""
        return self.recipe.evaluation.sampling(self.recipe.rollout.settled)


def load_subject(path: Path) -> Subject:
    """What a run has learned, or the untrained model of a recipe file.

    Raises:
        UserError: neither can be read.
    """
    if path.is_file():
        recipe = load_recipe(path)
        model = load_model(recipe.model, model_seed(recipe)).float()
        return Subject(recipe=recipe, model=model, guide=build_guide(recipe, model), version=0)
    return load_trained(path)


def load_trained(run: Path) -> Subject:
    """What is in the newest whole checkpoint of a run.

    Raises:
        UserError: there is no run, or no usable checkpoint.
    """
    recipe = parse_recipe(RunDir(run).load_recipe())
    checkpoint = newest_checkpoint(RunDir(run))
    model = load_model(recipe.model, model_seed(recipe)).float()
    own = model.state_dict()
    with torch.no_grad():
        for name, tensor in _tensors(checkpoint, MODEL):
            own[name].copy_(tensor)
    return Subject(
        recipe=recipe,
        model=model,
        guide=_load_guide(recipe, model, checkpoint),
        version=int(read_manifest(checkpoint)["version"]),
    )


def measure(path: Path) -> dict[str, Any]:
    """The held-out metric of a run's newest checkpoint, or of a recipe's model before any training.

    Prompts and seeds are those that the run itself measures with.
    """
    subject = load_subject(path)
    evaluator, reports = play_held_out(subject)
    measured = evaluator.measure(reports)
    return {"metric": measured.metric, "value": measured.value, "n": measured.n, "version": subject.version}


def play_held_out(subject: Subject) -> tuple[Evaluator, list[TaskReport]]:
    """The reports of one pass over the held-out prompts, and who reads them."""
    recipe = subject.recipe
    plan = prepare(recipe)
    engine = subject.engine(getattr(torch, recipe.rollout.weights_dtype))
    worker = build_worker(recipe, open_rewards(plan.recipe.reward), engine)
    evaluator = Evaluator(
        recipe.evaluation, plan.held_out, recipe.rollout.settled, recipe.run.seed, itertools.count()
    )
    tasks = evaluator.make_tasks(subject.version)
    rollouts = InlineRollouts(worker, recipe.rollout.num_threads, len(tasks))
    for task in tasks:
        rollouts.submit(task)
    arrivals = [arrival for _ in tasks for arrival in rollouts.collect()]
    return evaluator, [a.report for a in arrivals if isinstance(a, Delivery)]


def open_chat(run: Path, temperature: float) -> Callable[[str], str]:
    """A function from a prompt, in the words of the run's data, to a completion drawn as evaluation draws,
    save for the temperature."""
    subject = load_trained(run)
    recipe, engine = subject.recipe, subject.engine()
    encoder = build_encoder(recipe)
    sampling = subject.sampling.model_copy(update={"temperature": temperature})
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

    The Q function that actors play, where there is one, lies beside the model as guide.safetensors; a program
    that does not know of it plays the model alone (see rollout/q_file.py).

    Raises:
        UserError: the folder is there and not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty", remedy="give a new folder: nothing is overwritten")
    subject = load_trained(run)
    subject.model.save_pretrained(folder)
    load_tokenizer(subject.recipe.model).save_pretrained(folder)
    if subject.guide is not None:
        write_guide(subject.guide, folder)
    return subject.version


def _load_guide(recipe: Recipe, model: PreTrainedModel, checkpoint: Path) -> QFunction | None:
    """What the algorithm plays beside the model, with the tensors of its heads in the checkpoint."""
    algorithm = build_algorithm(recipe)
    if not algorithm.plays_q:
        return None
    heads = nn.ModuleDict(algorithm.heads(model))
    copy_into(heads, dict(_tensors(checkpoint, HEADS)))
    return algorithm.guide()


def _tensors(checkpoint: Path, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The learner's tensors whose names begin so, by the rest of the name, one in memory at a time."""
    with safe_open(checkpoint / "learner.safetensors", framework="pt") as file:
        for key in file.keys():  # noqa: SIM118  not a dict: it has no other way to list its names
            if key.startswith(prefix):
                yield key.removeprefix(prefix), file.get_tensor(key)
