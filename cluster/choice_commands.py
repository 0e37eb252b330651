"""The command for states other than tokens: learning to choose between texts."""

from pathlib import Path
from typing import Annotated, Any

import typer

Overrides = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated.")
]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("train-choice")(train_choice)


def train_choice(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="As recipes/answer_choice.yaml.")],
    run_dir: Annotated[
        Path | None, typer.Option(help="Where the run is kept; runs/<name> if not given.")
    ] = None,
    overrides: Overrides = [],  # noqa: B006  typer reads the default, nobody changes it
) -> None:
    """Learn by Q-learning from logged transitions which of several texts to choose."""
    from cluster.choice_recipe import load_choice_recipe
    from cluster.run_dir import new_run_dir
    from cluster.train_choice import train_choice

    checked = load_choice_recipe(recipe, overrides)
    folder = run_dir or new_run_dir(checked.run.name).path
    finish(folder, train_choice(checked, folder, say))


def finish(folder: Path, summary: dict[str, Any]) -> None:
    """Leave with the code that fits the end of the run, and say how to go on."""
    from cluster.train import INTERRUPTED

    if summary["status"] == INTERRUPTED:
        say(f"next: antiphon resume {folder}")
        raise typer.Exit(130)


def say(text: str) -> None:
    """One line for a person, as it is."""
    typer.echo(text)
