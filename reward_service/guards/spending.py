"""What the calls of a component cost: reserved before, settled after, sample by sample.

Used by the guard. It stands between the verdicts and the budget, which knows only amounts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reward_service.guards.budget import Budget, Reservation
from reward_service.guards.delivery import failures
from reward_service.guards.identity import Identity
from reward_service.reward import in_one_line
from reward_service.types import NOTHING, Sample, Score, Status, Usage

Estimate = Callable[[Sample], Usage]
"""What a sample will cost at most (Reward.estimate)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """Samples that the budget allows to be sent, and what was set aside for them."""

    samples: Sequence[Sample]
    reservation: Reservation


class Spending:
    """Lets samples through as far as the budget goes."""

    def __init__(self, budget: Budget, is_limited: bool, identity: Identity, estimate: Estimate) -> None:
        """
        Args:
            is_limited: whether the budget has limits; where it has none, nothing is estimated.
        """
        self._budget, self._is_limited = budget, is_limited
        self._identity, self._estimate = identity, estimate

    def reserve(self, samples: Sequence[Sample]) -> tuple[list[Purchase], dict[str, Score]]:
        """What may be sent, and the verdicts on the samples that may not, by id."""
        units = self._identity.units(samples) if self._is_limited else [samples]
        purchases: list[Purchase] = []
        refused: dict[str, Score] = {}
        for unit in units:
            try:
                reservation = self._budget.reserve(self._cost(unit))
            except Exception as error:  # The estimate is the component's code.
                refused |= failures(unit, Status.ERROR, f"its cost cannot be estimated: {in_one_line(error)}")
                continue
            if reservation is None:
                refused |= failures(unit, Status.OVER_BUDGET, self._budget.why())
            else:
                purchases.append(Purchase(samples=unit, reservation=reservation))
        return purchases, refused

    def settle(self, purchases: Sequence[Purchase], verdicts: Mapping[str, Score]) -> None:
        """Counts what was spent. What timed out without a bill stays reserved: the work may have been
        done."""
        for purchase in purchases:
            scores = [verdicts[s.id] for s in purchase.samples]
            billed = sum((score.usage for score in scores if score.usage is not NOTHING), NOTHING)
            if billed == NOTHING and any(score.status is Status.TIMEOUT for score in scores):
                continue
            self._budget.settle(purchase.reservation, billed)

    def affords_twice(self, samples: Sequence[Sample]) -> bool:
        """Whether the samples may be sent a second time; if so, that stays reserved."""
        return self._budget.reserve(self._cost(samples)) is not None

    def _cost(self, samples: Sequence[Sample]) -> Usage:
        return sum((self._estimate(s) for s in samples), NOTHING) if self._is_limited else NOTHING
