"""What a component may spend within any hour: requests, tokens, money.

Used by the guard, from one event loop. What a call will cost at most is reserved before it is made and
replaced by what it did cost afterwards, so that calls side by side cannot overspend together. A call that
never answered keeps its reservation: the judge may have done the work.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from antiphon.settings import Settings
from reward_service.guards.delivery import Clock
from reward_service.types import NOTHING, Usage

HOUR_S = 3600.0
SLOT_S = 10.0
"""Spending is remembered per slot of this length, so that an hour of any traffic is 361 numbers. A slot
counts until all of it is an hour old."""
ROUNDING = 1.0 + 1e-9
"""Three times 0.1 are 0.3 to whoever sets a limit."""


class BudgetConfig(Settings):
    """Limits for any 60 minutes; None is no limit. Samples beyond them have status over_budget."""

    max_requests: int | None = Field(None, ge=0)
    """Requests to the judge."""
    max_tokens: int | None = Field(None, ge=0)
    """Tokens that it reads and writes."""
    max_money: float | None = Field(None, ge=0.0, allow_inf_nan=False)
    """In the currency of the component's prices."""

    @property
    def is_limited(self) -> bool:
        return (self.max_requests, self.max_tokens, self.max_money) != (None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What was set aside for a call."""

    slot: int
    amount: Usage


class Budget:
    """The spending of the last hour against its limits."""

    def __init__(self, config: BudgetConfig, wall_clock: Clock) -> None:
        """
        Args:
            wall_clock: seconds since 1970, for what was spent must be known after a restart too.
        """
        self._config, self._clock = config, wall_clock
        self._slots: dict[int, Usage] = {}
        """Spending by number of the slot."""
        self._last_slot = 0
        self._sum = NOTHING
        self._num_refused = 0

    def reserve(self, amount: Usage) -> Reservation | None:
        """Sets `amount` aside; None where that would exceed a limit, or nothing is left of one."""
        slot = self._now()
        if not self._allows(amount):
            self._num_refused += 1
            return None
        self._add(slot, amount)
        return Reservation(slot=slot, amount=amount)

    def settle(self, reservation: Reservation, actual: Usage) -> None:
        """Replaces what was set aside by what was spent; it stays dated at the reservation."""
        self._now()
        self._add(reservation.slot, _minus(actual, reservation.amount))

    @property
    def spent(self) -> Usage:
        """Within the last hour, reservations included."""
        self._now()
        return self._sum

    def why(self) -> str:
        """What a sample that is refused is told."""
        limits = self._config.model_dump(exclude_none=True)
        spent = self.spent
        of = {"max_requests": spent.num_requests, "max_tokens": spent.num_tokens, "max_money": spent.money}
        told = ", ".join(f"{of[name]:g} of {name} {limit:g}" for name, limit in limits.items())
        return f"the budget of this hour does not allow it: {told}"

    def stats(self) -> dict[str, float]:
        spent = self.spent
        return {
            "num_requests": spent.num_requests,
            "num_tokens": spent.num_tokens,
            "money": spent.money,
            "num_refused": self._num_refused,
        }

    def state_dict(self) -> dict[str, Any]:
        """JSON-able: [slot, requests, tokens, money] of the last hour."""
        self._now()
        return {"slots": [[slot, u.num_requests, u.num_tokens, u.money] for slot, u in self._slots.items()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._slots = {
            slot: Usage(num_requests=requests, num_tokens=tokens, money=money)
            for slot, requests, tokens, money in state["slots"]
        }
        self._forget_before(self._oldest())

    def _now(self) -> int:
        """The number of the slot that it is; what is older than an hour is forgotten."""
        slot = int(self._clock() // SLOT_S)
        if slot != self._last_slot:
            self._last_slot = slot
            self._forget_before(self._oldest())
        return slot

    def _oldest(self) -> int:
        """The number of the oldest slot that counts."""
        return int(self._clock() // SLOT_S) - int(HOUR_S / SLOT_S)

    def _forget_before(self, oldest: int) -> None:
        self._slots = {slot: usage for slot, usage in self._slots.items() if slot >= oldest}
        # Anew and not by difference, lest rounding pile up.
        self._sum = sum(self._slots.values(), NOTHING)

    def _add(self, slot: int, amount: Usage) -> None:
        """Adds to a slot; to one that is forgotten, nothing."""
        if slot >= self._oldest():
            self._slots[slot] = self._slots.get(slot, NOTHING) + amount
            self._sum = self._sum + amount

    def _allows(self, amount: Usage) -> bool:
        """Whether something is left of every limit, and enough for `amount`."""
        limits = (self._config.max_requests, self._config.max_tokens, self._config.max_money)
        spent = (self._sum.num_requests, self._sum.num_tokens, self._sum.money)
        more = (amount.num_requests, amount.num_tokens, amount.money)
        return all(
            limit is None or (n < limit and n + m <= limit * ROUNDING)
            for limit, n, m in zip(limits, spent, more, strict=True)
        )


def _minus(left: Usage, right: Usage) -> Usage:
    return Usage(
        num_requests=left.num_requests - right.num_requests,
        num_tokens=left.num_tokens - right.num_tokens,
        money=left.money - right.money,
    )
