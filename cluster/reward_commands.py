"""The commands that need no run: the reward service alone, scoring files, reward models, calibration."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from antiphon.errors import UserError
from antiphon.secrets import read_secret

Overrides = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated.")
]
console = Console(highlight=False)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("serve-rewards")(serve_rewards)
    app.command()(score)
    app.command("train-reward-model")(train_reward_model)
    app.command()(calibrate)


def serve_rewards(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A file with a section `reward`.")],
    host: Annotated[str | None, typer.Option(help="Listen here; the recipe's reward.http.host.")] = None,
    port: Annotated[int | None, typer.Option(help="The recipe's reward.http.port if not given.")] = None,
    name: Annotated[str, typer.Option(help="Its name in the Ray cluster.")] = "rewards",
    overrides: Overrides = [],  # noqa: B006  typer reads the default, nobody changes it
) -> None:
    """Run the reward service alone, until Ctrl-C."""
    from cluster.serve_rewards import load_rewards, serve, with_door

    serve(with_door(load_rewards(recipe, overrides), host, port), name, _say)


def score(
    source: Annotated[Path, typer.Option("--input", help="JSON lines: prompt, completion, reference, …")],
    recipe: Annotated[Path | None, typer.Option(help="A file with a section `reward`.")] = None,
    url: Annotated[str | None, typer.Option(help="A running service, instead of a recipe.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="The same rows with their scores; <input>.scored.jsonl if not given.")
    ] = None,
    token_env: Annotated[
        str, typer.Option(help="Variable with the service's token.")
    ] = "ANTIPHON_REWARD_TOKEN",
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Score a whole file. Exit code 1 where some row could not be scored."""
    from cluster.serve_rewards import load_rewards
    from reward_service.http import HttpClient
    from reward_service.local import LocalClient
    from reward_service.score_file import check_rows, score_file

    if (recipe is None) == (url is None):
        raise UserError(
            "a file is scored by a recipe or by a service", remedy="give --recipe or --url, not both"
        )
    num_rows = check_rows(source)
    target = output or source.with_name(source.stem + ".scored.jsonl")
    if recipe is not None:
        config = load_rewards(recipe, overrides)
        client: LocalClient | HttpClient = LocalClient(
            config, is_isolated=True, deadline_s=config.deadline_s * num_rows
        )
    else:
        client = HttpClient(url or "", read_secret(token_env))
        client.components()
    try:
        with _bar() as bar:
            task = bar.add_task(source.name, total=num_rows)
            report = score_file(client, source, target, on_scored=lambda n: bar.advance(task, n))
    finally:
        client.close()
    _say(f"{report.num_rows} rows, {report.num_failed} without a score; {target}")
    for part, mean in report.means.items():
        _say(f"  {part}: {mean:.4f}")
    for message in report.messages:
        _say(f"  {message}")
    if report.num_failed:
        raise typer.Exit(1)


def train_reward_model(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="recipes/reward_model.yaml, for example.")],
    run_dir: Annotated[Path | None, typer.Option(help="runs/<name> if not given.")] = None,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Train a reward model on preference pairs."""
    from cluster import train_reward_model as training
    from cluster.run_dir import new_run_dir

    config = training.load_reward_model_recipe(recipe, overrides)
    training.train_reward_model(config, run_dir or new_run_dir(config.run.name).path, _say)


def calibrate(
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help='JSON lines: {"score": 0.7, "label": 1}.')],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="What a component names as its `calibration`.")],
    kind: Annotated[str, typer.Option(help="isotonic (needs some hundred labels) or logistic.")] = "logistic",
) -> None:
    """Fit a judge's scores to trusted labels."""
    from reward_service.fusion.calibrate import calibrate_file

    kinds: dict[str, Literal["isotonic", "logistic"]] = {"isotonic": "isotonic", "logistic": "logistic"}
    if kind not in kinds:
        raise UserError(f"--kind is {kind!r}", remedy="isotonic or logistic")
    report = calibrate_file(labels, out, kinds[kind])
    _say(f"{report.num_labels} labels; mean squared error on labels that were not fitted to:")
    _say(f"  {report.raw:.4f} as the judge says it, {report.calibrated:.4f} calibrated")
    _say(f"  {report.constant:.4f} for always saying the mean label")
    _say(f"calibration: {out}")


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
