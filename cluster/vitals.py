"""What is true of a run at this moment, for a scrape: who is there, what is under way, where time goes.

The numbers of an update come with the update (journal.py); these are asked for by the thread of the endpoint,
also while nothing moves. Each part answers from copies of what it holds.
"""

from dataclasses import dataclass

from cluster.dispatch import Dispatcher
from cluster.journal import Journal
from cluster.pause import Pause
from cluster.ports import RolloutSide


@dataclass(slots=True, kw_only=True)
class Vitals:
    """The parts that are asked."""

    rollouts: RolloutSide
    dispatcher: Dispatcher
    journal: Journal
    pause: Pause
    num_updates: int
    is_on: bool = False
    """Set once the first weights are shown: before, a run that goes on has not taken up its counts, and a
    counter that leaps looks like something that happens."""

    def look(self) -> dict[str, float]:
        """By metric; empty before the first weights are shown."""
        if not self.is_on:
            return {}
        return {
            **self.rollouts.vitals(),
            **self.dispatcher.vitals(),
            **self.journal.vitals(),
            "run/paused": float(self.pause.is_on),
            "run/updates_wanted": self.num_updates,
        }
