"""The commands that speak to a cluster from outside: submit a run as a job, and stop it."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from antiphon.errors import UserError

if TYPE_CHECKING:
    from cluster.jobs.following import Ended, Follower
    from cluster.jobs.wanted import Wanted
    from cluster.recipe import Recipe

console = Console(highlight=False)
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated.")
]
Address = Annotated[
    str,
    typer.Option(
        metavar="URL", envvar="RAY_API_SERVER_ADDRESS", help="The cluster's dashboard, http://HOST:8265."
    ),
]
Auth = Annotated[
    str | None, typer.Option(help="token or disabled, as on the cluster; RAY_AUTH_MODE if not given.")
]
STOP_MARGIN_S = 60.0
"""Beyond the time that a job has to save, for the cluster to take it down."""
SECRET_WORDS = ("TOKEN", "SECRET", "PASSWORD", "KEY")


Patterns = Annotated[
    list[str], typer.Option(metavar="PATTERN", help="Not uploaded, as in .gitignore; may be repeated.")
]
Variables = Annotated[
    list[str], typer.Option(metavar="NAME=VALUE", help="Environment of the job; not for secrets.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(submit)
    app.command()(stop)


def submit(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe of the working directory.")],
    address: Address,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where the run is kept, on storage that the cluster's nodes share; "
            "$ANTIPHON_RUNS/<name> if not given."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The job's name; run.name of the recipe if not given.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show the log, and exit as the run does.")] = False,
    auth: Auth = None,
    working_dir: Annotated[Path, typer.Option(help="The folder that is uploaded.")] = Path(),
    exclude: Patterns = [],  # noqa: B006  typer reads the default, nobody changes it
    max_upload_mib: Annotated[int, typer.Option(min=1, help="More than this is refused.")] = 32,
    stop_wait_s: Annotated[
        int, typer.Option(min=1, help="How long a stopped run may take to save; at least its longest update.")
    ] = 120,
    start_deadline_s: Annotated[
        float, typer.Option(help="With --wait: how long the job may be pending.")
    ] = 300.0,
    python: Annotated[str, typer.Option(help="The interpreter, in the cluster.")] = "python",
    env: Variables = [],  # noqa: B006
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Run a recipe as a job of a cluster. The same command again finds the job, or goes on with the run."""
    from cluster.jobs import connection
    from cluster.jobs.following import Follower
    from cluster.jobs.submitting import submit as submit_run
    from cluster.jobs.upload import MIB, look_at
    from cluster.node_fit import check_nodes
    from cluster.recipe import load_recipe

    checked = load_recipe(recipe, overrides)
    mode = connection.choose_auth(auth, os.environ)
    if warning := connection.warning_of(address, mode):
        console.print(f"note: {warning}", soft_wrap=True)
    upload = look_at(working_dir, exclude)
    inside = _inside(recipe, upload.folder)
    upload.check(inside, max_upload_mib * MIB)
    job_name = name or checked.run.name
    place = run_dir or _default_run_dir(job_name)
    wanted = _wanted(checked, job_name, place, inside, overrides, python, stop_wait_s, env)

    def check_room() -> None:
        if checked.cluster.mode == "ray":
            check_nodes(checked, connection.nodes_of(address))

    client = connection.connect(address)
    with connection.translated(address):
        job = submit_run(client, wanted, upload, check_room, _say)
        if wait and not job.is_done:
            _leave(_follow(Follower(client, job.submission_id, _say), start_deadline_s))
    if not wait and not job.is_done:
        _say(
            f"next: the same command with --wait shows its log; antiphon stop {job_name} --address {address}"
        )


def stop(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name that it was submitted under.")],
    address: Address,
    auth: Auth = None,
) -> None:
    """Stop a submitted run: it saves a checkpoint first, and can be submitted again. Exit code 1 if it could
    not save in time."""
    from cluster.jobs import connection
    from cluster.jobs.following import STOPPED_CODE, Follower
    from cluster.jobs.submitting import stop as stop_run

    connection.choose_auth(auth, os.environ)
    client = connection.connect(address)
    with connection.translated(address):
        job = stop_run(client, name)
        _say(f"stopping {job.submission_id}: it has {job.stop_wait_s} s to save a checkpoint")
        ended = Follower(client, job.submission_id, lambda line: None).await_end(
            job.stop_wait_s + STOP_MARGIN_S
        )
    _tell(ended)
    if ended.exit_code not in (0, STOPPED_CODE):
        raise typer.Exit(1)


def _wanted(
    recipe: "Recipe",
    name: str,
    run_dir: Path,
    path: str,
    overrides: list[str],
    python: str,
    stop_wait_s: int,
    env: list[str],
) -> "Wanted":
    """What is submitted.

    Raises:
        UserError: a name, a run directory or a variable that will not do.
    """
    from cluster.jobs.wanted import Wanted, check_name

    if not run_dir.is_absolute():
        raise UserError(
            f"--run-dir {run_dir} is not absolute",
            remedy="name a folder of storage that all nodes see at the same path: the job begins elsewhere",
        )
    changes = [word for change in overrides for word in ("--set", change)]
    command = [python, "-m", "cluster.jobs.driver", "train", path, "--run-dir", str(run_dir)]
    return Wanted(
        name=check_name(name),
        run_dir=str(run_dir),
        recipe=recipe.to_dict(),
        entrypoint=shlex.join([*command, "--resume-if-exists", *changes]),
        stop_wait_s=stop_wait_s,
        environment=dict(_variable(pair) for pair in env),
    )


def _default_run_dir(name: str) -> Path:
    root = os.environ.get("ANTIPHON_RUNS")
    if not root:
        raise UserError(
            "where the run is kept is not said",
            remedy="give --run-dir (or ANTIPHON_RUNS), on storage that all nodes see: Ray deletes its copy "
            "of your folder when the job is over, and nothing could go on",
        )
    return Path(root, name)


def _inside(recipe: Path, folder: Path) -> str:
    """The path of the recipe below the folder that is uploaded."""
    if not recipe.resolve().is_relative_to(folder):
        raise UserError(
            f"{recipe} is not inside of the folder that is uploaded, {folder}",
            remedy="give --working-dir, or run this from the folder of your recipes",
        )
    return str(recipe.resolve().relative_to(folder))


def _variable(pair: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not name or not equals:
        raise UserError(f"--env {pair!r} is not NAME=VALUE", remedy="write for example --env HF_HOME=/shared")
    if any(word in name.upper() for word in SECRET_WORDS):
        raise UserError(
            f"--env {name} looks like a secret: everybody who may see the cluster's jobs can read it",
            remedy="put it into the environment of the cluster's nodes, or into a file there",
        )
    return name, value


def _follow(follower: "Follower", start_deadline_s: float) -> "Ended":
    try:
        return follower.follow(start_deadline_s)
    except KeyboardInterrupt:
        _say("no longer following: the job goes on")
        raise typer.Exit(130) from None


def _leave(ended: "Ended") -> None:
    """Say how it ended, and exit as the run did."""
    _tell(ended)
    raise typer.Exit(ended.exit_code)


def _tell(ended: "Ended") -> None:
    from cluster.jobs.following import report

    for line in report(ended):
        _say(line)


def _say(line: str) -> None:
    console.print(line, soft_wrap=True, markup=False)
