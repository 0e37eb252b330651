"""Preference pairs: read from a file, freed of what teaches nothing, and split by prompt.

Called by cluster/train_reward_model.py. Knows texts; knows nothing of tokens.
"""

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from antiphon.errors import UserError
from antiphon.seeds import derive
from antiphon.settings import Settings


class PreferenceConfig(Settings):
    """The file of pairs, and what is held out of it."""

    path: Path
    """One JSON object per line."""
    prompt: str = "prompt"
    """The key of the prompt's text."""
    chosen: str = "chosen"
    """The key of the better answer."""
    rejected: str = "rejected"
    """The key of the other one."""
    strength: str | None = None
    """The key of a number between 0 (as good) and 1 (surely better) that says how much better; the target is
    then (1 + strength) / 2. null: the chosen answer is surely better."""
    held_out_share: float = Field(0.2, gt=0.0, lt=1.0)
    """Share of the prompts, with all their pairs, that is measured on and never trained on."""
    seed: int = 0
    """Which prompts are held out. Not the seed of the run: runs stay comparable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferencePair:
    """Two answers to one prompt."""

    prompt: str
    chosen: str
    rejected: str
    target: float = 1.0
    """How surely the chosen answer is the better one, ½ … 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceSplit:
    """No prompt is on both sides."""

    train: tuple[PreferencePair, ...]
    held_out: tuple[PreferencePair, ...]
    left_out: Mapping[str, int]
    """Pairs that were not used, by reason."""


def load_pairs(config: PreferenceConfig) -> PreferenceSplit:
    """The pairs of the file, split.

    Raises:
        UserError: no such file, a line that is no pair, or too few prompts for two sides.
    """
    pairs, left_out = distinct(_read(config))
    train, held_out = split_by_prompt(pairs, config.held_out_share, config.seed)
    if not train or not held_out:
        raise UserError(
            f"{config.path} has {len({_key(p.prompt) for p in pairs})} prompts: too few to hold some out",
            remedy="give pairs of at least two prompts, or another data.held_out_share",
        )
    return PreferenceSplit(train=train, held_out=held_out, left_out=left_out)


def distinct(pairs: Sequence[PreferencePair]) -> tuple[list[PreferencePair], dict[str, int]]:
    """The pairs without repetitions and without those of equal answers; how many went, by reason."""
    kept: dict[tuple[str, str, str], PreferencePair] = {}
    left_out: Counter[str] = Counter()
    for pair in pairs:
        key = (pair.prompt, pair.chosen, pair.rejected)
        if pair.chosen == pair.rejected:
            left_out["same_answers"] += 1
        elif key in kept:
            left_out["repeated"] += 1
        else:
            kept[key] = pair
    return list(kept.values()), dict(left_out)


def split_by_prompt(
    pairs: Sequence[PreferencePair], share: float, seed: int
) -> tuple[tuple[PreferencePair, ...], tuple[PreferencePair, ...]]:
    """Pairs to train on and pairs to measure on. Prompts that differ in case or white space alone are one."""
    prompts = sorted({_key(pair.prompt) for pair in pairs})
    num_held_out = round(share * len(prompts))
    chosen = set(random.Random(derive(seed, "held_out")).sample(prompts, num_held_out))
    train = tuple(pair for pair in pairs if _key(pair.prompt) not in chosen)
    return train, tuple(pair for pair in pairs if _key(pair.prompt) in chosen)


def _key(prompt: str) -> str:
    return " ".join(prompt.lower().split())


def _read(config: PreferenceConfig) -> list[PreferencePair]:
    try:
        lines = config.path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(
            f"{config.path} cannot be read: {error.strerror}",
            remedy="set data.path to a file with one JSON object per line",
        ) from None
    return [
        _pair(line, config, f"{config.path}, line {n}") for n, line in enumerate(lines, 1) if line.strip()
    ]


def _pair(line: bytes, config: PreferenceConfig, where: str) -> PreferencePair:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where} is not JSON: {error}", remedy="write one JSON object per line") from None
    if not isinstance(row, dict):
        raise UserError(f"{where} is not an object", remedy='write {"prompt": …, "chosen": …, "rejected": …}')
    texts = {key: _text(row, getattr(config, key), where) for key in ("prompt", "chosen", "rejected")}
    return PreferencePair(**texts, target=_target(row, config.strength, where))


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    text = row.get(key)
    if not isinstance(text, str) or not text.strip():
        raise UserError(
            f"{where} has no text under {key!r}",
            remedy=f"name the right key under data; it has {sorted(row)}",
        )
    return text


def _target(row: Mapping[str, Any], key: str | None, where: str) -> float:
    strength = 1.0 if key is None else row.get(key)
    is_number = isinstance(strength, int | float) and not isinstance(strength, bool)
    if not is_number or not 0.0 <= float(strength) <= 1.0:  # type: ignore[arg-type]
        raise UserError(
            f"{where}: {key!r} is {strength!r}, not within 0 … 1", remedy="set data.strength: null"
        )
    return (1.0 + float(strength)) / 2.0  # type: ignore[arg-type]
