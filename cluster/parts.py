"""Builds the parts of a run from a recipe: called inside the process in which a part lives."""

from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedModel

from antiphon import plugins
from antiphon.lease import Lease
from antiphon.privacy import build_masker
from antiphon.seeds import derive
from cluster.plan import build_algorithm, build_encoder, build_environment
from cluster.recipe import Recipe
from cluster.replaying import open_logged
from learner.follower import Follower
from learner.learner import Learner
from learner.logged import Limits
from learner.model import in_training_precision
from learner.process import LearnerProcess, ProcessRule
from learner.ranks import ALONE, Ranks
from learner.replay import Replay, ReplayRule
from learner.supervised import Pair
from reward_service.client import RewardClient
from rollout.engines.base import Engine
from rollout.models import empty_model, eos_token_ids, load_model, load_tokenizer
from rollout.player import Player
from rollout.q_function import QFunction, for_model
from rollout.worker import Worker


def build_engine(
    recipe: Recipe, model: PreTrainedModel | None = None, guide: QFunction | None = None
) -> Engine:
    """The engine of the recipe around a model of its own, or around a given one; with a Q function to play,
    given or new, where the algorithm has one."""
    engine_class, config = plugins.configure(
        Engine, "rollout.engines", recipe.rollout.engine, "rollout.engine"
    )
    dtype = getattr(torch, recipe.rollout.weights_dtype)
    own = load_model(recipe.model, model_seed(recipe)).to(dtype) if model is None else model
    stops = recipe.rollout.sampling.stop_token_ids or eos_token_ids(load_tokenizer(recipe.model), own)
    engine: Engine = engine_class(config, own, stops)
    guide = guide or build_guide(recipe, own)
    if guide is not None:
        engine.follow(guide)
    return engine


def build_guide(recipe: Recipe, model: PreTrainedModel) -> QFunction | None:
    """A new Q function, which says 0 of everything, of the form that this recipe's actors play; or None."""
    config = build_algorithm(recipe).guide_config
    if config is None:
        return None
    with torch.random.fork_rng(devices=[]):
        # Beside a model in half precision it computes in single: what counts is the difference of two Qs.
        return for_model(config, model).float()


def build_worker(recipe: Recipe, rewards: RewardClient, engine: Engine | None = None) -> Worker:
    """A rollout worker with an engine that has a model of its own, or with a given one."""
    player = Player(engine or build_engine(recipe), build_environment(recipe), build_encoder(recipe))
    return Worker(player, rewards, build_masker(recipe.privacy))


def build_learner_process(
    recipe: Recipe,
    pairs: tuple[Pair, ...],
    trajectories: Path,
    limits: Limits,
    lease: Lease,
    ranks: Ranks = ALONE,
) -> LearnerProcess:
    """The learner with everything that it updates; of several ranks the first. It stores trajectories as
    long as the lease is good."""
    rule = ProcessRule(
        max_lag=None if build_algorithm(recipe).is_off_policy else recipe.rollout.max_lag,
        weights_dtype=getattr(torch, recipe.rollout.weights_dtype),
        trajectories=trajectories,
        tokenizer=limits.tokenizer,
        warm_up=recipe.warm_up,
        seed=recipe.run.seed,
        watch=recipe.watch,
        writing=lease.writing,
        masker=build_masker(recipe.privacy),
        device=recipe.learner.torch_device,
    )
    lm = in_training_precision(load_model(recipe.model, model_seed(recipe)))
    make_learner = partial(build_learner, recipe, ranks)
    return LearnerProcess(rule, lm, make_learner, build_replay(recipe, limits), pairs, ranks)


def build_follower(recipe: Recipe, ranks: Ranks) -> Follower:
    """What another rank than the first holds."""
    weights_dtype = getattr(torch, recipe.rollout.weights_dtype)
    lm = in_training_precision(empty_model(recipe.model))
    return Follower(lm, partial(build_learner, recipe, ranks), ranks, weights_dtype)


def build_learner(recipe: Recipe, ranks: Ranks, lm: PreTrainedModel) -> Learner:
    """The learner of the recipe around a model."""
    return Learner(
        recipe.learner,
        build_algorithm(recipe),
        lm,
        sampling=recipe.rollout.sampling,
        num_updates=recipe.run.num_updates,
        seed=recipe.run.seed,
        ranks=ranks,
    )


def build_replay(recipe: Recipe, limits: Limits) -> Replay:
    """The replay of the recipe, with the logged data that it draws from."""
    replay_class, config = recipe.replay_plugin
    rule = ReplayRule(groups_per_update=recipe.rollout.groups_per_update, seed=recipe.run.seed)
    return replay_class(config, rule, open_logged(recipe, limits))


def model_seed(recipe: Recipe) -> int:
    """Draws the parameters of a model that is built from nothing."""
    return derive(recipe.run.seed, "model") % 2**32
