"""A rollout side whose number of actors changes while the run goes on: the pool, and who keeps its number.

Used by train.py around whatever the assembly brings; the loop sees a RolloutSide as before.
"""

from collections.abc import Callable

from cluster.crew import Crew, Pool
from cluster.journal import Journal
from cluster.ports import Delivery, Lost, Published, RolloutSide
from cluster.recipe import Recipe
from cluster.run_dir import RunDir
from cluster.scale_request import Requests
from rollout.types import Task


class ElasticRollouts:
    """The rollout side of a run; sees to the number of actors whenever the loop looks for results."""

    def __init__(self, rollouts: RolloutSide, crew: Crew | None, journal: Journal) -> None:
        self._rollouts = rollouts
        self._crew = crew
        self._journal = journal

    @property
    def num_free(self) -> int:
        return self._rollouts.num_free

    def submit(self, task: Task) -> None:
        self._rollouts.submit(task)

    def collect(self) -> list[Delivery | Lost]:
        if self._crew is not None:
            self._crew.look(self._journal.phase_now)
        return self._rollouts.collect()

    def load(self, published: Published) -> None:
        self._rollouts.load(published)

    def describe(self) -> str:
        return self._rollouts.describe()

    def close(self) -> None:
        self._rollouts.close()

    def vitals(self) -> dict[str, float]:
        return self._rollouts.vitals()


def make_elastic(
    rollouts: RolloutSide, recipe: Recipe, run_dir: RunDir, journal: Journal, on_event: Callable[..., None]
) -> ElasticRollouts:
    """The same rollouts with somebody who keeps their number; without, where all are in one process."""
    if not isinstance(rollouts, Pool):
        return ElasticRollouts(rollouts, None, journal)
    return ElasticRollouts(rollouts, Crew(recipe, rollouts, Requests(run_dir.scale), on_event), journal)
