"""Small trajectory stores on disk, as earlier runs would have left them."""

from collections.abc import Sequence
from pathlib import Path

from learner.logged import Limits
from rollout.trajectories import write_parquet
from rollout.types import Group
from tests.learner.fakes_groups import group, random_groups, trajectory

LIMITS = Limits(tokenizer="t", vocab_size=32, max_tokens=64)


def write_run(run: Path, files: Sequence[Sequence[Group]], tokenizer: str = "t") -> str:
    """A run directory with one file for each update; returns its place as a recipe names it."""
    for version, groups in enumerate(files):
        write_parquet(groups, run / "trajectories", version, tokenizer)
    return str(run)


def numbered(start: int, num_groups: int) -> list[Group]:
    """Groups of one trajectory of two tokens, whose score is their number."""
    return [group(i, [trajectory([1], [2])], [float(i)]) for i in range(start, start + num_groups)]


def number(logged: Group) -> int:
    """Which of the `numbered` groups it is, under whatever key."""
    assert logged.scores[0].value is not None
    return int(logged.scores[0].value)


def small_run(run: Path, num_files: int = 3, num_groups: int = 4) -> str:
    return write_run(run, [numbered(i * num_groups, num_groups) for i in range(num_files)])


def ragged_run(run: Path) -> str:
    return write_run(run, [random_groups(5, 2, seed=seed) for seed in range(2)])
