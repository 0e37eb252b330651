"""The Wordle benchmark: what behaviour cloning and ILQL make of the same logged games.

    python -m benchmarks.wordle --dictionary /usr/share/dict/american-english-small --out runs/wordle

Each seed draws its own words and games (recipes/make_wordle.py) and trains recipes/wordle_*.yaml on them, one
after the other and each in one process. A run that is already there is read and not made again. Prints a
Markdown table of means over the seeds, and one JSON line with every row. See docs/wordle.md.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cluster.recipe import Recipe
from cluster.run_dir import RunDir
from cluster.trained import load_trained, play_held_out
from recipes.make_wordle import NUM_GAMES, NUM_WORDS, WORDS, draw_words, games, store, write_words
from reward_service.wordle_game import NUM_GUESSES
from rollout.trajectories import read_parquet

RECIPES = "bc,ilql"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How well somebody plays."""

    who: str
    seed: int
    score: float
    """Minus the wrong guesses of a game, 6 of a lost one; the mean."""
    won: float
    """Share of games."""
    num_games: int
    wall_s: float
    """Of training, without measurements."""


def logged(seed: int, dictionary: Path, out: Path, num_held_out: int) -> Path:
    """The folder with words and games of this seed."""
    folder = out / f"logged_{seed}"
    if not (folder / "trajectories").exists():
        path = write_words(draw_words(dictionary, NUM_WORDS, seed), folder)
        store(list(games(path, NUM_GAMES, seed, num_held_out)), folder)
    return folder


def read_logged(folder: Path, seed: int) -> Row:
    """How well the scripted player plays."""
    scores = [group.scores[0].value or 0.0 for group in read_parquet(folder / "trajectories")]
    won = statistics.fmean(score > -NUM_GUESSES for score in scores)
    return Row(
        who="the logged games",
        seed=seed,
        score=statistics.fmean(scores),
        won=won,
        num_games=len(scores),
        wall_s=0.0,
    )


def run(recipe: str, seed: int, data: Path, out: Path, settings: Sequence[str]) -> Path:
    """The folder of the run, after it has finished. The trainer refuses one that was left unfinished."""
    folder = out / f"{recipe}_{seed}"
    if (folder / "summary.json").exists() and RunDir(folder).load_summary()["status"] == "done":
        return folder
    words = data / WORDS
    wanted = [f"run.seed={seed}", f"data.words={words}", f"rollout.environment.words={words}"]
    wanted += [f"replay.trajectories={json.dumps([str(data)])}"]
    wanted += ["cluster.mode=inline", "metrics.prometheus_port=null", *settings]
    command = [sys.executable, "-m", "cluster", "train", f"recipes/wordle_{recipe}.yaml"]
    command += ["--run-dir", str(folder)]
    for setting in wanted:
        command += ["--set", setting]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def measure(folder: Path, who: str, seed: int, beta: float | None, num_samples: int) -> Row:
    """How well the newest checkpoint of a run plays, with the β of its recipe or another."""
    subject = load_trained(folder)
    _, reports = play_held_out(replace(subject, recipe=played_with(subject.recipe, beta, num_samples)))
    groups = [group for report in reports for group in report.groups]
    scores = [score for group in groups for score in group.parts["wordle"]]
    summary = RunDir(folder).load_summary()
    return Row(
        who=who,
        seed=seed,
        score=statistics.fmean(scores),
        won=statistics.fmean(won for group in groups for won in group.parts["won"]),
        num_games=len(scores),
        wall_s=round(summary["wall_s"] - summary["phases_s"].get("eval", 0.0), 1),
    )


def played_with(recipe: Recipe, beta: float | None, num_samples: int) -> Recipe:
    """The recipe with another β, unless that is None, and another number of games, for its measurement."""
    changes: dict[str, float] = {"num_samples": num_samples}
    if beta is not None:
        changes["beta"] = beta
    return recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update=changes)})


def table(rows: Sequence[Row]) -> str:
    """A line per player: means over the seeds, and the lowest and the highest score."""
    lines = [
        "| who | seeds | mean score (lowest to highest) | games won | seconds |",
        "|---|---|---|---|---|",
    ]
    for who in dict.fromkeys(row.who for row in rows):
        own = [row for row in rows if row.who == who]
        scores, wall_s = [row.score for row in own], statistics.fmean(row.wall_s for row in own)
        lines.append(
            f"| {who} | {len(own)} | {statistics.fmean(scores):.2f} ({min(scores):.2f} to {max(scores):.2f}) "
            f"| {statistics.fmean(row.won for row in own):.1%} | {f'{wall_s:.0f}' if wall_s else '–'} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="where games and runs are kept")
    parser.add_argument("--dictionary", type=Path, default=Path("/usr/share/dict/words"))
    parser.add_argument("--recipes", default=RECIPES)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--num-held-out", type=int, default=0, help="answers that no logged game has")
    parser.add_argument("--num-samples", type=int, default=20, help="games with each word as the answer")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    options = parser.parse_args()
    settings = [f"data.num_held_out={options.num_held_out}", *options.settings]
    rows = []
    for seed in (int(s) for s in options.seeds.split(",")):
        data = logged(seed, options.dictionary, options.out, options.num_held_out)
        rows.append(read_logged(data, seed))
        for recipe in options.recipes.split(","):
            folder = run(recipe, seed, data, options.out, settings)
            rows.append(measure(folder, recipe, seed, None, options.num_samples))
            if recipe == "ilql":
                rows.append(measure(folder, "ilql, β = 0", seed, 0.0, options.num_samples))
            print(rows[-1], file=sys.stderr)
    print(table(rows))
    print(json.dumps({"benchmark": "wordle", "rows": [asdict(row) for row in rows]}))


if __name__ == "__main__":
    main()
