"""Makes the logged data of recipes/walks_ilql.yaml: the random walks of a graph, as a store of trajectories.

    python -m recipes.make_walks --seed 1000 --out data/walks_1000

Each walk is a group of its own: its first node is the prompt, the rest was drawn by a policy that takes every
edge of a node with the same probability, and the component `walk` has scored it. The store has the form that
every run leaves behind.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from antiphon.errors import UserError
from reward_service.components.walk import Walk
from reward_service.types import Score, Status
from reward_service.walk_graph import GOAL, MAX_NODES, WalkGraph, draw_walks, graph_of
from rollout import environment
from rollout.encoding import Encoder, EncodingConfig
from rollout.fingerprint import fingerprint
from rollout.models import ModelConfig, load_config, load_tokenizer, max_context
from rollout.sources.random_walks import require_solvable, walk_example
from rollout.trajectories import write_parquet
from rollout.types import Completion, Group, Turn

MODEL = ModelConfig(name="gpt2-walks")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1000, help="of the graph and the walks, as data.seed")
    parser.add_argument("--num-walks", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("data/walks_1000"), help="the folder to write")
    options = parser.parse_args()
    try:
        groups = list(walk_groups(options.seed, options.num_walks))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    path = store(groups, options.out)
    scores = [group.scores[0].value or 0.0 for group in groups]
    print(f"{len(groups)} walks of mean optimality {statistics.fmean(scores):.3f} in {path}")
    return 0


def store(groups: Sequence[Group], folder: Path) -> Path:
    """Write the groups as a run would that had played them; returns the file."""
    return write_parquet(groups, folder / "trajectories", 0, fingerprint(load_tokenizer(MODEL)))


def walk_groups(seed: int, num_walks: int) -> Iterator[Group]:
    """The walks that come with a graph, each as a group that was played and scored.

    Raises:
        UserError: the goal of this graph cannot be reached from everywhere.
    """
    graph, walks = graph_of(seed), draw_walks(seed, num_walks)
    require_solvable(seed, "".join({walk[0] for walk in walks}))
    encoder = Encoder(
        EncodingConfig(),
        load_tokenizer(MODEL),
        context_length=max_context(load_config(MODEL)),
        max_new_tokens=MAX_NODES - 1,
    )
    for number, walk in enumerate(walks):
        yield _group(
            Turn(epoch=0, index=number, prompt=encoder.encode(walk_example(seed, number, walk))),
            graph,
            encoder,
        )


def _group(turn: Turn, graph: WalkGraph, encoder: Encoder) -> Group:
    played = environment.trajectory(turn.prompt, _completion(turn, graph, encoder), encoder.decode)
    (sample,) = environment.samples(turn, [played])
    value = Walk(Walk.Config()).score_one(sample)
    score = Score(id=sample.id, status=Status.OK, value=value, parts={Walk.name: value})
    return environment.group(turn, [played], [score], policy_version=0)


def _completion(turn: Turn, graph: WalkGraph, encoder: Encoder) -> Completion:
    """The walk behind its first node. The goal ends it, as its token ends those of the recipes."""
    rest = turn.prompt.reference or ""
    walk = turn.prompt.text + rest
    return Completion(
        token_ids=encoder.target_ids(rest)[:-1],
        logprobs=tuple(-math.log(len(graph.successors[node])) for node in walk[:-1]),
        finish_reason="stop" if walk[-1] == GOAL else "length",
        policy_version_min=0,
        policy_version_max=0,
    )


if __name__ == "__main__":
    sys.exit(main())
