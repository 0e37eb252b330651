"""The command line: parses, calls, prints. Mistakes of a person end in a sentence and exit code 2.

Exit codes: 0 the run did what was asked · 1 it failed · 2 something that was asked for is wrong ·
3 another attempt has taken the run over · 130 it was stopped and can be resumed.
"""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from antiphon.errors import UserError
from antiphon.lease import Superseded
from cluster import choice_commands, job_commands, reward_commands, scale_command
from cluster.monitoring import commands as monitoring_commands
from cluster.stop import Interrupted

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)
app = typer.Typer(
    help="Reinforcement learning for language models, as actors and a learner.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
models = typer.Typer(help="Models that recipes name.", no_args_is_help=True)
app.add_typer(models, name="model")

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe, see recipes/.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated.")
]


@app.command()
def train(
    recipe: RecipePath,
    run_dir: Annotated[
        Path | None, typer.Option(help="Where the run is kept; runs/<name> if not given.")
    ] = None,
    resume_if_exists: Annotated[
        bool, typer.Option("--resume-if-exists", help="Go on with the run if the folder holds one.")
    ] = False,
    overrides: Overrides = [],  # noqa: B006  typer reads the default, nobody changes it
) -> None:
    """Train a model as a recipe says."""
    from cluster.plan import prepare
    from cluster.recipe import load_recipe
    from cluster.run_dir import RunDir, new_run_dir
    from cluster.start_or_resume import start_or_resume, start_run

    checked = load_recipe(recipe, overrides)
    if resume_if_exists:
        folder = RunDir(run_dir or Path("runs", checked.run.name))
        _finish(folder, start_or_resume(checked, folder, _progress(checked)))
        return
    folder = RunDir(run_dir) if run_dir else new_run_dir(checked.run.name)
    _finish(folder, start_run(prepare(checked), folder, _progress(checked)))


@app.command()
def resume(run: RunPath) -> None:
    """Go on with a run from its newest whole checkpoint."""
    from cluster.plan import prepare
    from cluster.recipe import parse_recipe
    from cluster.run_dir import RunDir
    from cluster.start_or_resume import resume_run
    from cluster.train import DONE
    from cluster.train_choice import is_choice_run, resume_choice

    folder = RunDir(run)
    if is_choice_run(run):
        choice_commands.finish(run, resume_choice(run, choice_commands.say))
        return
    checked = parse_recipe(folder.load_recipe())
    if folder.load_summary().get("status") == DONE:
        console.print(f"{run} is done: there is nothing to go on with", soft_wrap=True)
        return
    _finish(folder, resume_run(prepare(checked), folder, _progress(checked)))


@app.command()
def check(recipe: RecipePath, overrides: Overrides = []) -> None:  # noqa: B006
    """Find mistakes in seconds: resolve the recipe, print what follows from it, and do one small step."""
    from cluster.check import print_report, take_small_step
    from cluster.plan import prepare
    from cluster.recipe import load_recipe

    checked = load_recipe(recipe, overrides)
    print_report(prepare(checked), console)
    console.print(take_small_step(checked))


@app.command("eval")
def evaluate(
    subject: Annotated[Path, typer.Argument(metavar="RUN|RECIPE", help="A run directory, or a recipe.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Measure a run's newest checkpoint, or a recipe's untrained model, on the held-out prompts."""
    from cluster.trained import measure

    result = measure(subject)
    if as_json:
        print(json.dumps(result))
    else:
        console.print("{metric} at version {version}: {value:.4f} (n {n})".format(**result))


@app.command()
def chat(
    run: RunPath,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the most probable token.")] = 0.0,
) -> None:
    """Talk to the newest checkpoint of a run, one prompt a line; an empty line ends."""
    from cluster.trained import open_chat

    answer = open_chat(run, temperature)
    if sys.stdin.isatty():
        console.print("an empty line ends the chat")
    while prompt := _read_line():
        console.print(answer(prompt), markup=False)


@app.command()
def export(run: RunPath, folder: Annotated[Path, typer.Argument(metavar="DIR")]) -> None:
    """Write the newest checkpoint of a run as a plain Hugging Face folder."""
    from cluster.trained import export_model

    console.print(f"version {export_model(run, folder)} is in {folder}")


@models.command("get")
def get_model(name: str) -> None:
    """Bring a model into the cache, so that recipes can name it."""
    from rollout.model_store import get

    console.print(f"{name} is in {get(name)}")


reward_commands.register(app)
choice_commands.register(app)
monitoring_commands.register(app)
scale_command.register(app)
job_commands.register(app)


def main() -> None:
    """Run the command line; a person's mistake becomes a sentence."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # An installed script does not look into the current folder; import paths in recipes lead there.
    sys.path.insert(0, os.getcwd())
    try:
        app()
    except Interrupted:
        sys.exit(130)
    except Superseded as error:
        errors.print(f"[bold]superseded:[/bold] {escape(str(error))}", soft_wrap=True)
        sys.exit(3)
    except UserError as error:
        errors.print(f"[bold red]error:[/bold red] {escape(error.problem)}", soft_wrap=True)
        errors.print(f"[bold]remedy:[/bold] {escape(error.remedy)}", soft_wrap=True)
        sys.exit(2)


def _read_line() -> str:
    """The next line of the chat; empty at the end of the input."""
    return console.input("[bold]prompt:[/bold] ") if sys.stdin.isatty() else sys.stdin.readline().strip()


def _progress(recipe: Any) -> Any:
    from cluster.progress import Progress

    return Progress(console, recipe.run.name, recipe.run.num_updates)


def _finish(folder: Any, outcome: Any) -> None:
    """Say how the run ended and what to do next; leave with the code that fits."""
    from cluster.train import DONE

    summary = outcome.summary
    ev = summary["eval"]
    console.print(f"\n{outcome.status}: version {summary['version']} after {summary['wall_s']:.0f} s")
    if ev["after"] is not None:
        console.print("held-out {metric}: {before:.4f} before, {after:.4f} after (n {n})".format(**ev))
    console.print(f"run directory: {folder.path}", soft_wrap=True)
    if outcome.status == DONE:
        console.print(f"next: antiphon chat {folder.path}", soft_wrap=True)
        console.print(f"      tensorboard --logdir {folder.tensorboard}", soft_wrap=True)
        console.print(f"      antiphon export {folder.path} my-model", soft_wrap=True)
    else:
        console.print(f"next: antiphon resume {folder.path}", soft_wrap=True)
        raise typer.Exit(130)
