"""Keeps the pool of actors at the number that is wanted: by the recipe, by its rule, or by a person.

    waiting and idleness (scaling.py) --+
    antiphon scale (scale_request.py) --+--> Crew --> pool.resize

Asked at every turn of the driver (elastic.py). Knows neither Ray nor tasks.
"""

import time
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from antiphon.errors import UserError
from cluster.recipe import Recipe
from cluster.resources import check_fit, num_that_fit
from cluster.scale_request import REFUSED, SCALED, Requests, ScaleRequest
from cluster.scaling import Scaler

POLL_S = 1.0
"""How often the run directory is looked at."""


@runtime_checkable
class Pool(Protocol):
    """Actors whose number can be changed."""

    num_wanted: int

    @property
    def num_serving(self) -> int: ...

    @property
    def num_busy(self) -> int: ...

    def resize(self, num_actors: int) -> None: ...

    def resources(self) -> Mapping[str, float]: ...


class Crew:
    """How many actors a run shall have."""

    def __init__(
        self,
        recipe: Recipe,
        pool: Pool,
        requests: Requests,
        on_event: Callable[..., None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        rollout = recipe.rollout
        self._recipe = recipe
        self._pool = pool
        self._requests = requests
        self._on_event = on_event
        self._clock = clock
        self._is_elastic = rollout.fewest_actors < rollout.most_actors
        self._is_pinned = False
        """A person said how many; the rule has no say until it is given back."""
        self._scaler = Scaler(recipe.cluster.scaling)
        self._polled_s = self._complete_s = clock()

    def look(self, phase: str) -> None:
        """See to the number of actors, while the driver is at `phase`."""
        now_s = self._clock()
        if now_s - self._polled_s >= POLL_S:
            self._polled_s = now_s
            if request := self._requests.take():
                self._obey(request)
        if self._is_elastic and not self._is_pinned:
            self._follow_the_rule(now_s, phase)

    def _follow_the_rule(self, now_s: float, phase: str) -> None:
        serving, wanted = self._pool.num_serving, self._pool.num_wanted
        if serving == 0:
            self._complete_s = (
                now_s  # There are no weights yet, or the pool sees to it that somebody has them.
            )
        elif serving < wanted:
            self._scaler.forget()
            if now_s - self._complete_s > self._recipe.cluster.start_deadline_s:
                self._change(serving, f"{wanted - serving} did not come up")
        else:
            self._complete_s = now_s
            if change := self._scaler.look(now_s, phase, serving, self._pool.num_busy):
                reason = "the learner waits for actors" if change > 0 else "actors are idle"
                self._change(serving + change, reason)

    def _change(self, num_actors: int, reason: str) -> None:
        """Resize as far as the bounds and the cluster let it."""
        rollout, before = self._recipe.rollout, self._pool.num_wanted
        most = min(rollout.most_actors, self._num_useful, self._num_fitting)
        allowed = int(max(rollout.fewest_actors, min(num_actors, max(most, self._pool.num_serving))))
        self._scaler.forget()
        self._complete_s = self._clock()
        if allowed != before:
            self._resize(allowed, reason=reason)

    def _resize(self, num_actors: int, **facts: object) -> None:
        before = self._pool.num_wanted
        self._pool.resize(num_actors)
        self._on_event(SCALED, before=before, actors=num_actors, **facts)

    @property
    def _num_useful(self) -> float:
        """Tasks that can be in flight at once: more actors would have nothing to do."""
        recipe = self._recipe
        return (recipe.rollout.max_lag + 1) * recipe.num_fresh // recipe.groups_in_task

    @property
    def _num_fitting(self) -> float:
        return num_that_fit(self._recipe, self._pool.resources())

    def _obey(self, request: ScaleRequest) -> None:
        """Do what a person asks, or say why not; one of two events answers."""
        num_actors = request.num_actors or self._recipe.rollout.num_actors
        try:
            self._check(num_actors)
        except UserError as error:
            self._on_event(REFUSED, request=request.id, reason=error.problem, remedy=error.remedy)
            return
        self._is_pinned = request.num_actors is not None
        self._scaler.forget()
        self._complete_s = self._clock()
        self._resize(num_actors, reason="asked for", request=request.id)

    def _check(self, num_actors: int) -> None:
        """
        Raises:
            UserError: the recipe's bounds or the cluster do not allow so many.
        """
        rollout = self._recipe.rollout
        if self._is_elastic and not rollout.fewest_actors <= num_actors <= rollout.most_actors:
            raise UserError(
                f"{num_actors} actors are not between rollout.min_actors {rollout.fewest_actors} and "
                f"rollout.max_actors {rollout.most_actors}",
                remedy="ask for a number between them",
            )
        free = {"num_actors": num_actors, "min_actors": None, "max_actors": None}
        asked = self._recipe.model_copy(update={"rollout": rollout.model_copy(update=free)})
        check_fit(asked, self._pool.resources())
