"""The random-walks benchmark: from one node of a graph, spell a shortest walk to the node `a`.

The graph and its rules are those of reward_service/walk_graph.py; docs/random_walks.md tells the whole.
"""

from typing import ClassVar

from pydantic import Field

from antiphon.errors import UserError
from antiphon.settings import Settings
from reward_service.walk_graph import draw_walks, graph_of
from rollout.prompts import Example, PromptSource, Split


class RandomWalks(PromptSource):
    """First nodes of random walks, with the rest of each walk as the reference. The held-out prompts are the
    distinct first nodes, which are trained on, too: there are no others."""

    name: ClassVar[str] = "random_walks"

    class Config(Settings):
        seed: int = Field(1000, ge=0, lt=2**32)
        """The graph and the walks. Not the seed of the run: runs stay comparable."""
        num_walks: int = Field(1000, ge=1)
        """Walks to learn from; of few, not every node is a first one."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def examples(self) -> Split:
        seed = self.config.seed
        walks = draw_walks(seed, self.config.num_walks)
        starts = "".join(sorted({walk[0] for walk in walks}))
        require_solvable(seed, starts)
        return Split(
            train=tuple(walk_example(seed, number, walk) for number, walk in enumerate(walks)),
            held_out=tuple(_example(seed, f"start/{seed}/{node}", node, None) for node in starts),
            is_closed=True,
        )


def walk_example(seed: int, number: int, walk: str) -> Example:
    """A walk as a prompt, its first node, and a reference, the others."""
    return _example(seed, f"walk/{seed}/{number}", walk[0], walk[1:])


def require_solvable(seed: int, starts: str) -> None:
    """
    Raises:
        UserError: from some of the first nodes the goal cannot be reached, where optimality is 0/0.
    """
    lost = graph_of(seed).unsolvable(starts)
    if lost:
        raise UserError(
            f"in the graph of data.seed {seed} the goal cannot be reached from {', '.join(lost)}",
            remedy="use another seed: 1000, 1002, 1004, 1005 and 1006 are solvable from everywhere",
        )


def _example(seed: int, name: str, start: str, reference: str | None) -> Example:
    return Example(id=name, content=start, reference=reference, metadata={"graph_seed": seed})
