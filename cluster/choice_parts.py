"""From a recipe to all that a choice run consists of: data read, texts encoded, model and trainer made."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from antiphon.seeds import derive
from cluster.choice_recipe import ChoiceRecipe
from learner.choice.baselines import baselines
from learner.choice.encoder import Encoder, load_encoder
from learner.choice.model import ChoiceModel
from learner.choice.network import QNetwork
from learner.choice.sources import FrozenVectors, Source, TrainedEncoder
from learner.choice.table import ChoiceTable, Texts, TransitionTable
from learner.choice.trainer import ChoiceTrainer
from learner.choice.transitions import Choice, Transition, read_choices, read_transitions
from learner.choice.vectors import vectors_of

VECTORS = "vectors"
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class ChoiceParts:
    """What `assemble_choice` made."""

    encoder: Encoder
    model: ChoiceModel
    trainer: ChoiceTrainer
    choices: ChoiceTable | None
    """What is measured on; None: nothing."""
    data_digest: str
    """Names the transitions: a run goes on with the same ones only."""
    facts: dict[str, Any]
    """For the summary."""


def assemble_choice(recipe: ChoiceRecipe, run_dir: Path, say: Say) -> ChoiceParts:
    """Read, encode and build.

    Raises:
        UserError: no such model or data, or a text that is too long.
    """
    if recipe.training.num_threads is not None:
        torch.set_num_threads(recipe.training.num_threads)
    transitions = read_transitions(recipe.data.paths)
    choices = read_choices(recipe.evaluation.paths) if recipe.evaluation.paths else []
    texts = Texts(recipe.encoder.state_prefix, recipe.encoder.action_prefix)
    table = TransitionTable.of(transitions, texts)
    choice_table = ChoiceTable.of(choices, texts) if choices else None
    encoder = load_encoder(recipe.encoder, derive(recipe.run.seed, "encoder"))
    say(f"{len(transitions)} transitions, {len(choices)} choices to measure on, {len(texts)} texts")
    start_s = time.monotonic()
    source = _source(recipe, encoder, texts, run_dir, say)
    encode_s = time.monotonic() - start_s
    network = QNetwork(recipe.network, source.size, derive(recipe.run.seed, "network"))
    model = ChoiceModel(source, network).to(encoder.device)
    model.fit_scales(table.state.to(encoder.device), table.actions.to(encoder.device))
    trainer = ChoiceTrainer(
        model,
        table,
        learning=recipe.learning,
        training=recipe.training,
        replay=recipe.replay,
        num_updates=recipe.run.num_updates,
        seed=recipe.run.seed,
    )
    return ChoiceParts(
        encoder=encoder,
        model=model,
        trainer=trainer,
        choices=choice_table,
        data_digest=_digest(transitions),
        facts={
            **_facts(transitions, choices),
            "num_texts": len(texts),
            "encode_s": round(encode_s, 1),
            "num_parameters": sum(p.numel() for p in model.parameters()),
        },
    )


def _source(recipe: ChoiceRecipe, encoder: Encoder, texts: Texts, run_dir: Path, say: Say) -> Source:
    rows = [encoder.ids(text) for text in texts.as_read()]
    if recipe.encoder.is_trained:
        return TrainedEncoder(encoder, rows)
    vectors = vectors_of(
        encoder,
        rows,
        recipe.encoder.max_tokens_per_batch,
        recipe.vectors.folder or run_dir / VECTORS,
        lambda done, total: say(f"{done}/{total} texts encoded"),
    )
    return FrozenVectors(vectors)


def _facts(transitions: Sequence[Transition], choices: Sequence[Choice]) -> dict[str, Any]:
    seen = {t.state for t in transitions}
    return {
        "num_transitions": len(transitions),
        "num_choices": len(choices),
        "num_choices_seen": sum(c.state in seen for c in choices),
        "baselines": baselines(choices, transitions) if choices else {},
    }


def _digest(transitions: Sequence[Transition]) -> str:
    digest = hashlib.sha256()
    for transition in transitions:
        digest.update(json.dumps(asdict(transition)).encode())
    return digest.hexdigest()
