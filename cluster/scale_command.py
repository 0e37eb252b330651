"""The command that changes the number of actors of a run that goes on."""

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("scale")(scale)


def scale(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run directory of a run that goes on.")],
    actors: Annotated[int | None, typer.Option(min=1, help="Have so many, until told otherwise.")] = None,
    is_auto: Annotated[bool, typer.Option("--auto", help="Have what the recipe says.")] = False,
    timeout_s: Annotated[float, typer.Option(min=0.1, help="How long to wait for the answer.")] = 60.0,
) -> None:
    """Add or take away rollout actors while a run goes on."""
    from antiphon.errors import UserError
    from cluster.run_dir import RunDir
    from cluster.scale_request import ask

    if (actors is None) != is_auto:
        raise UserError("one of --actors and --auto is needed", remedy="for example --actors 4")
    answer = ask(RunDir(run), actors, timeout_s)
    typer.echo("{before} -> {actors} actors".format(**answer))
