"""Everything that can be found wrong before a process starts or a file is written, found.

`prepare` turns a recipe into a plan: plug-ins resolved, prompts encoded, rewards tried once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from antiphon import plugins
from antiphon.errors import UserError
from antiphon.privacy import build_masker
from cluster.playing import check_playing, describe_engine, describe_guide
from cluster.recipe import Recipe
from cluster.replaying import check_replay, describe_replay, limits_of, open_logged, with_absolute_stores
from cluster.resources import check_ranks
from learner.algorithms.base import Algorithm
from learner.logged import Limits, Logged
from learner.supervised import Pair
from reward_service import lines as reward_lines
from reward_service.trial import try_rewards
from reward_service.types import Sample
from rollout.encoding import Encoder
from rollout.engines.base import Engine
from rollout.environments.base import Environment
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
    engine: type[Engine]
    """What draws the completions."""
    limits: Limits
    """What the model takes, and whose token ids its trajectories hold."""
    logged: Logged | None
    """The trajectories of earlier runs that it learns from."""


def prepare(recipe: Recipe) -> Plan:
    """Check the whole recipe against the data, the model's files and the plug-ins.

    Raises:
        UserError: the first thing that does not fit.
    """
    build_masker(recipe.privacy)
    check_ranks(recipe)
    algorithm = build_algorithm(recipe)
    engine, _ = plugins.configure(Engine, "rollout.engines", recipe.rollout.engine, "rollout.engine")
    check_playing(recipe, algorithm, engine)
    check_replay(recipe, algorithm)
    reward_lines.check_rewards(recipe.reward)
    environment, encoder = build_environment(recipe), build_encoder(recipe)
    split = read_source(recipe.data, "data")
    train = encoder.encode_all(split.train, "data (train)")
    held_out = encoder.encode_all(split.held_out, "data (held out)")
    for prompt in (train[0], held_out[0]):
        environment.start(prompt, seed=0)
    try_rewards(recipe.reward, _sample(held_out[0]))
    pairs = _pairs(train, encoder) if recipe.warm_up else ()
    recipe, limits = with_absolute_stores(recipe), limits_of(recipe)
    return Plan(
        recipe=recipe,
        encoder=encoder,
        train=train,
        held_out=held_out,
        pairs=pairs,
        algorithm=algorithm,
        engine=engine,
        limits=limits,
        logged=open_logged(recipe, limits),
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


def build_environment(recipe: Recipe) -> Environment:
    """What answers the policy.

    Raises:
        UserError: no such environment, a wrong setting, or something that it needs is not there.
    """
    environment_class, config = plugins.configure(
        Environment, "rollout.environments", recipe.rollout.environment, "rollout.environment"
    )
    environment: Environment = environment_class(config)
    return environment


def build_encoder(recipe: Recipe) -> Encoder:
    """Tokenizer and chat format of the recipe, with the room that the model's context leaves."""
    return Encoder(
        recipe.encoding,
        load_tokenizer(recipe.model),
        context_length=max_context(load_config(recipe.model)),
        max_new_tokens=_max_completion(recipe),
    )


def _max_completion(recipe: Recipe) -> int:
    """Tokens that may follow a prompt."""
    return build_environment(recipe).max_tokens(recipe.rollout.sampling.max_new_tokens)


def _pairs(train: Sequence[Prompt], encoder: Encoder) -> tuple[Pair, ...]:
    """What the supervised phase teaches: the references of the training prompts."""
    known = [(p, p.reference) for p in train if p.reference is not None]
    if not known:
        raise UserError(
            "warm_up teaches references, and no training prompt has one",
            remedy="name the reference column under data, or remove the section warm_up",
        )
    return tuple((p.token_ids, encoder.target_ids(reference)) for p, reference in known)


def _sample(prompt: Prompt) -> Sample:
    """A completion that the policy could have written, to try the rewards on."""
    return Sample(
        id="trial",
        prompt=prompt.text,
        completion=prompt.reference or "a completion",
        reference=prompt.reference,
        metadata=prompt.metadata,
        num_tokens=1,
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
            "epochs": f"{r.run.num_updates * r.num_fresh / len(plan.train):.2f}",
        },
        "one update": {
            "prompts (groups)": r.rollout.groups_per_update,
            "samples": r.rollout.samples_per_update,
            "completion tokens, at most": r.rollout.samples_per_update * _max_completion(r),
            "optimizer steps": r.learner.num_epochs * r.learner.num_minibatches,
            "samples per optimizer step": f"{minibatch:g}",
        },
        "the run": {
            "updates": r.run.num_updates,
            "prompts": r.run.num_updates * r.num_fresh,
            "samples": r.run.num_updates * r.num_fresh * r.rollout.num_samples,
            "prompts per task": r.groups_in_task,
            "tasks per update": r.num_fresh // r.groups_in_task,
            "groups in flight, at most": (r.rollout.max_lag + 1) * r.num_fresh,
        },
        **describe_replay(r, plan.logged),
        **describe_guide(r, plan.algorithm),
        **describe_engine(plan.engine),
    }
