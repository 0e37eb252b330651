"""For algorithms that learn from what their own policy drew just now: each group once, then it is gone."""

from collections.abc import Sequence

from learner.replay import Draw, Replay


class FreshQueue(Replay):
    """First in, first out by place in the order of dispatch; a batch is fresh groups and nothing else."""

    name = "queue"

    def draw(self, version: int) -> Draw:
        groups = tuple(self._take_fresh())
        return Draw(groups=groups, num_fresh=len(groups))

    def learn(self, draw: Draw, errors: Sequence[float] | None) -> None:
        """Nothing is drawn twice."""
