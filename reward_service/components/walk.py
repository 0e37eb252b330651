"""Is the walk that prompt and completion spell the shortest way to the goal?"""

from pydantic import Field

from antiphon.settings import Settings
from reward_service.reward import InvalidInput, Reward
from reward_service.types import Sample
from reward_service.walk_graph import graph_of

SEED = "graph_seed"
MAX_SEED = 2**32 - 1


class Walk(Reward):
    """The optimality of a walk of the random-walks benchmark: 1 on a shortest path, 0 where ten nodes do not
    lead to the goal."""

    name = "walk"

    class Config(Settings):
        graph_seed: int | None = Field(None, ge=0, le=MAX_SEED)
        """The graph; null: the one that the prompt's metadata names as graph_seed."""

    config: Config

    def score_one(self, sample: Sample) -> float:
        graph = graph_of(self._seed(sample))
        try:
            return graph.optimality(sample.prompt + sample.completion)
        except ValueError as error:
            raise InvalidInput(str(error)) from error

    def _seed(self, sample: Sample) -> int:
        if self.config.graph_seed is not None:
            return self.config.graph_seed
        seed = sample.metadata.get(SEED)
        if not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
            raise InvalidInput(f"needs the seed of a graph as {SEED} in the metadata, got {seed!r}")
        return seed
