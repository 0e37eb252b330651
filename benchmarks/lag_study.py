"""What lag does to PPO, and what the correction for it gives back.

    python -m benchmarks.lag_study --model DIR --out runs/lag [--lags 0,1,2,4,8] [--seeds 0,1,2]
        [--updates 100] [--set KEY=VALUE ...]

The task of recipes/sort_five.yaml from a model that was shortly taught it. All parts in one process, but in
the order of a run on Ray whose actors are so fast that only `rollout.max_lag` holds them: whatever the bound
lets out is played at once, by the weights of that moment, also while an update goes on. From the update after
the first max_lag ones, every token is max_lag versions old. "Plain" leaves the weight π_prox / π_behaviour
out (algorithm.correction_cap: null).

One run per lag, way and seed; one that is in --out already is read and not made again. Prints a Markdown
table of means over the seeds, and one JSON line with every run.
"""

import argparse
import itertools
import json
import statistics
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from antiphon.lease import Lease
from cluster.evaluation import Evaluator
from cluster.hooks import Hooks
from cluster.inline import InlineLearner, Later
from cluster.journal import Journal
from cluster.loop import Loop
from cluster.parts import build_learner_process, build_worker
from cluster.plan import Plan, prepare
from cluster.ports import Delivery, Lost, Published
from cluster.recipe import load_recipe
from cluster.rewards import Rewards
from cluster.rule import DispatchRule
from cluster.stop import StopRequest
from learner.process import UpdateReport
from reward_service.opening import open_rewards
from rollout.prompts import PromptStream
from rollout.types import Task
from rollout.worker import Worker

RECIPE = Path("recipes/sort_five.yaml")
FIXED = (
    "cluster.mode=inline",
    "metrics.prometheus_port=null",
    "evaluation.every=0",
    "evaluation.num_samples=4",
    # A lag of eight updates may well move log-probs by more than a healthy run would.
    "learner.max_lagged_mismatch=null",
)
WAYS = {"plain": "null", "corrected": "2.0"}
"""The setting algorithm.correction_cap of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run. The means are over the second half of its updates, where lag is at its bound."""

    lag: int
    way: str
    seed: int
    before: float
    """Sampled accuracy on the held-out strings."""
    after: float
    reward: float
    """Mean reward of the samples that were trained on."""
    ess: float
    mismatch: float
    """Mean |log π_prox − log π_behaviour| in nats per token."""
    lag_mean: float
    wall_s: float


class Ahead:
    """The rollout side of actors that need no time: a task is played as soon as it is given out."""

    num_free = 1

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._played: deque[Delivery | Lost] = deque()

    def submit(self, task: Task) -> None:
        result = self._worker.run(task)
        self._played.append(Delivery(report=result.report, groups=result.groups))

    def collect(self) -> list[Delivery | Lost]:
        played = list(self._played)
        self._played.clear()
        return played

    def load(self, published: Published) -> None:
        self._worker.load(published.weights)

    def vitals(self) -> dict[str, float]:
        return {}

    def describe(self) -> str:
        return "actors that need no time"

    def close(self) -> None:
        self._played.clear()


class AfterALook:
    """An answer that is not there when somebody looks for the first time, as that of another process."""

    def __init__(self, later: Later) -> None:
        self._later = later
        self._has_looked = False

    def is_done(self) -> bool:
        has_looked, self._has_looked = self._has_looked, True
        return has_looked and self._later.is_done()

    def result(self) -> UpdateReport:
        report: UpdateReport = self._later.result()
        return report


class BesideActors(InlineLearner):
    """The learner, during whose update the loop looks after the actors once."""

    def update(self, version: int) -> AfterALook:
        return AfterALook(self._later(partial(self._process.update, version)))


def train(lag: int, way: str, seed: int, options: argparse.Namespace) -> Result:
    """One run from the model as it is."""
    settings = (
        f"model.name={options.model}",
        f"run.seed={seed}",
        f"run.num_updates={options.updates}",
        f"rollout.max_lag={lag}",
        f"algorithm.correction_cap={WAYS[way]}",
    )
    plan = prepare(load_recipe(RECIPE, [*FIXED, *settings, *options.settings]))
    told: list[Mapping[str, float]] = []
    start_s = time.monotonic()
    loop = build_loop(plan, options.out / name(lag, way, seed), told)
    loop.show(0)
    before = loop.measure().value
    loop.run(lambda version: None)
    after = loop.measure().value
    late = told[len(told) // 2 :]
    return Result(
        lag=lag,
        way=way,
        seed=seed,
        before=before,
        after=after,
        reward=_mean(late, "reward/mean"),
        ess=_mean(late, "ess"),
        mismatch=_mean(late, "mismatch/mean"),
        lag_mean=_mean(late, "lag/mean"),
        wall_s=round(time.monotonic() - start_s, 1),
    )


def build_loop(plan: Plan, folder: Path, told: list[Mapping[str, float]]) -> Loop:
    """The loop of a run in this folder, whose numbers of each update are put into `told`."""
    recipe, lease = plan.recipe, Lease.next_of(folder)
    lease.claim()
    rewards = open_rewards(recipe.reward)
    process = build_learner_process(recipe, tuple(plan.pairs), folder / "trajectories", plan.limits, lease)
    return Loop(
        rule=DispatchRule.of(recipe, is_group_relative=plan.algorithm.is_group_relative),
        stream=PromptStream(plan.train, recipe.run.seed),
        rollouts=Ahead(build_worker(recipe, rewards)),
        learner=BesideActors(process, recipe.learner.num_threads or 1),
        rewards=Rewards(rewards),
        make_evaluator=partial(
            Evaluator, recipe.evaluation, plan.held_out, recipe.rollout.settled, recipe.run.seed
        ),
        stop=StopRequest(),
        hooks=Hooks(
            on_update=lambda version, values: told.append(values),
            on_measurement=lambda version, measurement: None,
            on_event=lambda kind, **facts: None,
        ),
        journal=Journal(),
        stall_deadline_s=recipe.cluster.stall_deadline_s,
    )


def name(lag: int, way: str, seed: int) -> str:
    """Of a run in the folder of the study."""
    return f"lag_{lag}_{way}_seed_{seed}"


def result(lag: int, way: str, seed: int, options: argparse.Namespace) -> Result:
    """The run that is there, or a new one."""
    path = options.out / f"{name(lag, way, seed)}.json"
    if path.exists():
        return Result(**json.loads(path.read_text()))
    made = train(lag, way, seed, options)
    path.write_text(json.dumps(asdict(made)))
    print(made, file=sys.stderr, flush=True)
    return made


def table(results: Sequence[Result]) -> str:
    """Markdown: one row per lag and way, means over the seeds."""
    lines = ["| lag | way | held-out accuracy | reward | ess | mismatch, nats |", "|---|---|---|---|---|---|"]
    for (lag, way), runs in itertools.groupby(results, key=lambda r: (r.lag, r.way)):
        rows: list[dict[str, Any]] = [asdict(run) for run in runs]
        means = [statistics.fmean(row[key] for row in rows) for key in ("after", "reward", "ess", "mismatch")]
        lines.append(f"| {lag} | {way} | {' | '.join(f'{mean:.3f}' for mean in means)} |")
    return "\n".join(lines)


def _mean(rows: Sequence[Mapping[str, float]], key: str) -> float:
    return round(statistics.fmean(row[key] for row in rows), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a folder with weights and tokenizer")
    parser.add_argument("--out", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--lags", default="0,1,2,4,8")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    lags, seeds = ([int(n) for n in text.split(",")] for text in (options.lags, options.seeds))
    # All of one seed first, so that a study that is cut short has compared something.
    found = [result(lag, way, seed, options) for seed in seeds for lag in lags for way in WAYS]
    found.sort(key=lambda r: (r.lag, r.way))
    print(table(found))
    print(
        json.dumps({"benchmark": "lag_study", "updates": options.updates, "runs": [asdict(r) for r in found]})
    )


if __name__ == "__main__":
    main()
