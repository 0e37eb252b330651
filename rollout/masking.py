"""What of a group may be kept in words, once it is scored: texts without personal data, and no token ids that
spell them out.

    scores, groups --mask--> what travels on (worker.py) --split--> two parts of a store (learner/process.py)

Rewards read the texts as they are; behind them texts are for people alone. Token ids stay true, because the
learner learns from them: what is masked is in no store with its ids, and in checkpoints and memory until it
is learned from (docs/privacy.md).
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from antiphon.privacy import Masker
from reward_service.types import Score
from rollout.trajectories import write_parquet
from rollout.types import Group, Trajectory

MASKED = "masked"
"""The folder of a store in which masked trajectories lie, for people: they have no tokens."""


def mask_score(score: Score, masker: Masker) -> Score:
    """A judge's words may repeat what it read."""
    return replace(score, message=masker.text(score.message)) if masker.is_on else score


def mask_group(group: Group, masker: Masker) -> Group:
    """The group with every text masked; ids, log-probs and scores are as they were."""
    if not masker.is_on:
        return group
    prompt = group.prompt
    masked = replace(
        prompt,
        id=masker.text(prompt.id),
        text=masker.text(prompt.text),
        reference=None if prompt.reference is None else masker.text(prompt.reference),
        metadata=masker.tree(prompt.metadata),
        prefill=masker.text(prompt.prefill),
    )
    trajectories = tuple(
        replace(t, completion_text=masker.tail(prompt.text, t.completion_text)) for t in group.trajectories
    )
    return replace(group, prompt=masked, trajectories=trajectories)


def store(groups: Sequence[Group], folder: Path, version: int, tokenizer: str, masker: Masker) -> None:
    """Keep masked groups: those without personal data as `write_parquet` does, to be learned from later; the
    others beside them, without tokens."""
    whole, masked = split(groups, masker)
    write_parquet(whole, folder, version, tokenizer)
    if masker.is_on:
        write_parquet(masked, folder / MASKED, version)


def split(groups: Sequence[Group], masker: Masker) -> tuple[list[Group], list[Group]]:
    """Of masked groups, the trajectories in which nothing is marked, and the others without tokens.

    A group may be in both parts, and its prompt counts for each trajectory.
    """
    whole, masked = [], []
    for group in groups:
        marked = [
            masker.has_marked(group.prompt.text) or masker.has_marked(t.completion_text)
            for t in group.trajectories
        ]
        whole += _chosen(group, [not m for m in marked])
        masked += [_without_tokens(part) for part in _chosen(group, marked)]
    return whole, masked


def _chosen(group: Group, is_chosen: Sequence[bool]) -> list[Group]:
    """The group with these trajectories and their scores, if there are any."""
    if all(is_chosen):
        return [group]
    places = [n for n, chosen in enumerate(is_chosen) if chosen]
    trajectories = tuple(group.trajectories[n] for n in places)
    scores = tuple(group.scores[n] for n in places)
    return [replace(group, trajectories=trajectories, scores=scores)] if places else []


def _without_tokens(group: Group) -> Group:
    empty: dict[str, Any] = dict.fromkeys(_per_token(group.trajectories[0]), ())
    rows = tuple(replace(t, **empty) for t in group.trajectories)
    return replace(group, prompt=replace(group.prompt, token_ids=()), trajectories=rows)


def _per_token(trajectory: Trajectory) -> list[str]:
    """The fields with an entry for each token: the tuples, all of one length."""
    return [f.name for f in fields(trajectory) if isinstance(getattr(trajectory, f.name), tuple)]
