"""Everything that can be found wrong before a process starts or a file is written, found.

`prepare` turns a recipe into a plan: plug-ins resolved, prompts encoded, rewards tried once.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from antiphon import plugins
from antiphon.errors import UserError
from cluster.recipe import Recipe
from learner.algorithms.base import Algorithm
from learner.supervised import Pair
from reward_service.rubric import Rubric, build_rubric
from reward_service.types import Sample, Score
from rollout.encoding import Encoder
from rollout.engines.base import Engine
from rollout.models import load_config, load_tokenizer, max_context
from rollout.prompts import read_source
from rollout.types import Prompt


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recipe that was found to be in order, with its data."""

    recipe: Recipe
    encoder: Encoder
    train: Sequence[Prompt]
    held_out: Sequence[Prompt]
    pairs: Sequence[Pair]
    """What the supervised phase teaches; empty without one."""
    algorithm: Algorithm
    rubric: Rubric


def prepare(recipe: Recipe) -> Plan:
    """Check the whole recipe against the data, the model's files and the plug-ins.

    Raises:
        UserError: the first thing that does not fit.
    """
    algorithm = build_algorithm(recipe)
    plugins.configure(Engine, "rollout.engines", recipe.rollout.engine, "rollout.engine")
    rubric = build_rubric(recipe.reward)
    encoder = build_encoder(recipe)
    split = read_source(recipe.data, "data")
    train = encoder.encode_all(split.train, "data (train)")
    held_out = encoder.encode_all(split.held_out, "data (held out)")
    _try_rewards(rubric, held_out[0], recipe.reward.deadline_s)
    pairs = _pairs(train, encoder) if recipe.warm_up else ()
    return Plan(
        recipe=recipe,
        encoder=encoder,
        train=train,
        held_out=held_out,
        pairs=pairs,
        algorithm=algorithm,
        rubric=rubric,
    )


def build_algorithm(recipe: Recipe) -> Algorithm:
    """The algorithm that the recipe names, with its settings.

    Raises:
        UserError: no such algorithm, a wrong setting, or one that does not fit the group size.
    """
    algorithm_class, config = plugins.configure(
        Algorithm, "learner.algorithms", recipe.algorithm, "algorithm"
    )
    algorithm: Algorithm = algorithm_class(config)
    if algorithm.is_group_relative and recipe.rollout.num_samples < 2:
        raise UserError(
            f"{recipe.algorithm['name']} compares the samples of a prompt, rollout.num_samples is "
            f"{recipe.rollout.num_samples}",
            remedy="set rollout.num_samples to 2 or more, or use algorithm.name ppo",
        )
    return algorithm


def build_encoder(recipe: Recipe) -> Encoder:
    """Tokenizer and chat format of the recipe, with the room that the model's context leaves."""
    return Encoder(
        recipe.encoding,
        load_tokenizer(recipe.model),
        context_length=max_context(load_config(recipe.model)),
        max_new_tokens=recipe.rollout.sampling.max_new_tokens,
    )


def _pairs(train: Sequence[Prompt], encoder: Encoder) -> tuple[Pair, ...]:
    """What the supervised phase teaches: the references of the training prompts."""
    known = [(p, p.reference) for p in train if p.reference is not None]
    if not known:
        raise UserError(
            "warm_up teaches references, and no training prompt has one",
            remedy="name the reference column under data, or remove the section warm_up",
        )
    return tuple((p.token_ids, encoder.target_ids(reference)) for p, reference in known)


def _try_rewards(rubric: Rubric, prompt: Prompt, deadline_s: float) -> None:
    """Score one completion, so that a reward that cannot work is found before training.

    Raises:
        UserError: a component failed, or did not answer in time.
    """
    sample = Sample(
        id="trial",
        prompt=prompt.text,
        completion=prompt.reference or "a completion",
        reference=prompt.reference,
        metadata=prompt.metadata,
        num_tokens=1,
    )
    scores: list[Score] = []
    # A thread that hangs cannot be ended, but a daemon does not keep the process alive.
    trial = threading.Thread(target=lambda: scores.extend(rubric.score([sample])), daemon=True)
    trial.start()
    trial.join(deadline_s)
    if not scores:
        raise UserError(
            f"the reward gave no score to the first held-out prompt within {deadline_s:g} s",
            remedy="make the component faster, or raise reward.deadline_s",
        )
    if not scores[0].is_ok:
        raise UserError(
            f"the reward fails on the first held-out prompt: {scores[0].status}: {scores[0].message}",
            remedy="mend the component, or choose one that fits the data",
        )


def describe(plan: Plan) -> dict[str, dict[str, Any]]:
    """Every number that follows from the recipe, with its unit, for people."""
    r = plan.recipe
    minibatch = r.rollout.samples_per_update / r.learner.num_minibatches
    lengths = [len(p.token_ids) for p in plan.train]
    return {
        "data": {
            "training prompts": len(plan.train),
            "held-out prompts": len(plan.held_out),
            "longest prompt": f"{max(lengths)} tokens",
            "epochs": f"{r.run.num_updates * r.rollout.groups_per_update / len(plan.train):.2f}",
        },
        "one update": {
            "prompts (groups)": r.rollout.groups_per_update,
            "samples": r.rollout.samples_per_update,
            "completion tokens, at most": r.rollout.samples_per_update * r.rollout.sampling.max_new_tokens,
            "optimizer steps": r.learner.num_epochs * r.learner.num_minibatches,
            "samples per optimizer step": f"{minibatch:g}",
        },
        "the run": {
            "updates": r.run.num_updates,
            "prompts": r.run.num_updates * r.rollout.groups_per_update,
            "samples": r.run.num_updates * r.rollout.samples_per_update,
            "prompts per task": r.rollout.groups_in_task,
            "tasks per update": r.rollout.groups_per_update // r.rollout.groups_in_task,
            "groups in flight, at most": (r.rollout.max_lag + 1) * r.rollout.groups_per_update,
        },
    }
