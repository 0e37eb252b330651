"""A rank of a learner as a process of its own, for test_sharding.py.

    python -m tests.learner.drive_ranks FOLDER RANK NUM_RANKS

plays every scenario and leaves, from the first rank, what came of it in FOLDER/NAME_NUM: losses, digests, a
checkpoint. One process alone does the same without a group.
"""

import json
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import _set_pg_timeout
from torch.distributed.tensor import DTensor

from antiphon.settings import parse
from learner.algorithms.base import Algorithm
from learner.algorithms.dqn import DQN
from learner.algorithms.grpo import GRPO
from learner.algorithms.ppo import PPO
from learner.algorithms.soft_q import SoftQ
from learner.learner import Learner, LearnerConfig
from learner.mismatch import MismatchError
from learner.ranks import ALONE, RankError, Ranks
from learner.rendezvous import join
from learner.state import load_state, save_state
from rollout.types import Group, Sampling
from tests.learner.fakes_groups import random_groups
from tests.learner.fakes_models import tiny_llama, tiny_qwen2

DEADLINE_S = 800.0
"""Long enough for a machine on which much else is going on."""
SHORT_S = 2.0
"""The deadline that is missed on purpose."""
KL = {"place": "both", "target": 0.1, "horizon": 50}
ALGORITHMS: dict[str, Callable[[], Algorithm]] = {
    "grpo": lambda: GRPO(GRPO.Config()),
    "ppo": lambda: PPO(parse(PPO.Config, {"kl": KL, "entropy_coef": 0.01})),
    "dqn": lambda: DQN(parse(DQN.Config, {"q": {"form": "tied"}, "target": {"share": 0.5}})),
    "soft_q": lambda: SoftQ(parse(SoftQ.Config, {"target": {"share": 0.5}})),
}
PIECES: dict[str, Any] = {"max_tokens_per_micro_batch": 64, "num_epochs": 2, "num_minibatches": 2}
"""Several micro-batches a step, and several steps; their number is no multiple of that of the ranks."""


def learner(algorithm: str, ranks: Ranks, *, untied: bool = False, **changes: Any) -> Learner:
    """Llama with tied embeddings, or Qwen2 without; ranks but the first have a model without values."""
    settings = {"max_mismatch": None, "max_lagged_mismatch": None, "optimizer": {"lr": 1e-3}, **changes}
    lm = tiny_qwen2() if untied else tiny_llama()
    if not ranks.is_first:
        lm = lm.to("meta")
        lm.tie_weights()
    config = parse(LearnerConfig, settings)
    return Learner(
        config, ALGORITHMS[algorithm](), lm, sampling=Sampling(), num_updates=10, seed=0, ranks=ranks
    )


def batches(num: int, num_groups: int = 5) -> list[list[Group]]:
    return [random_groups(num_groups, 3, completion_tokens=(1, 20), seed=seed) for seed in range(num)]


def learn(one: Learner, groups: list[list[Group]], ranks: Ranks) -> list[dict[str, Any]]:
    """Updates; on the first rank the numbers of each."""
    told = []
    for batch in groups:
        if ranks.is_first:
            importance = [1.0 + g.index for g in batch] if one.algorithm.is_off_policy else None
            told.append({**one.update(batch, importance), "td_errors": one.td_errors or []})
        else:
            one.follow()
    return told


def play(folder: Path, ranks: Ranks) -> None:
    """All scenarios that end well."""
    for name in ALGORITHMS:
        one = learner(name, ranks, **PIECES)
        keep(folder / f"{name}_{ranks.num}", one, learn(one, batches(3), ranks), ranks)
    one = learner("grpo", ranks, untied=True, **PIECES)
    keep(folder / f"untied_{ranks.num}", one, learn(one, batches(2), ranks), ranks)
    # Three rows, each a part of its own: the second rank has nothing to do in the second round.
    one = learner("ppo", ranks, share_prompts=False, max_tokens_per_micro_batch=1)
    keep(folder / f"idle_{ranks.num}", one, learn(one, batches(2, num_groups=1), ranks), ranks)
    # Two parts for one rank as for two: one sum of two gradients, and no norm that scales it.
    one = learner("grpo", ranks, share_prompts=False, max_tokens_per_micro_batch=48, optimizer=NO_CLIP)
    keep(folder / f"exact_{ranks.num}", one, learn(one, EXACT, ranks), ranks)
    one = learner("ppo", ranks, autocast="bfloat16", max_tokens_per_micro_batch=64)
    keep(folder / f"half_{ranks.num}", one, learn(one, batches(1), ranks), ranks)


NO_CLIP = {"lr": 1e-3, "max_grad_norm": 1e9}
EXACT = [random_groups(2, 2, prompt_tokens=(8, 8), completion_tokens=(16, 16), seed=s) for s in range(3)]
"""4 rows of 24 tokens."""


def keep(folder: Path, one: Learner, told: list[dict[str, Any]], ranks: Ranks) -> None:
    """From the first rank: a checkpoint, the weights as they travel, and what was told."""
    is_split = all(
        isinstance(parameter, DTensor)
        for model in (one.model, one.reference)
        if model is not None
        for parameter in model.parameters()
    )
    state = one.state_dict()
    if not ranks.is_first:
        one.played(torch.bfloat16)
        one.played()
        return
    half, full = one.weights(0, torch.bfloat16), one.weights(0)
    save_state(state, folder, "learner")
    save_state(dict(full.tensors()), folder, "weights")
    (folder / "told.json").write_text(
        json.dumps(
            {
                "metrics": told,
                "digest": full.digest,
                "half_digest": half.digest,
                "is_split": is_split,
            }
        )
    )


def go_on(folder: Path, ranks: Ranks) -> None:
    """From the checkpoint of the other number of ranks, two more updates."""
    other = 3 - ranks.num
    for name in ("ppo", "dqn"):
        one = learner(name, ranks, **PIECES)
        one.load_state_dict(load_state(folder / f"{name}_{other}", "learner"))
        keep(folder / f"{name}_{other}_then_{ranks.num}", one, learn(one, batches(5)[3:], ranks), ranks)


def refuse(folder: Path, ranks: Ranks) -> None:
    """Both ranks raise the same: log-probs that are not the learner's. Nothing has changed."""
    one = learner("grpo", ranks, max_mismatch=0.01)
    before = one.model.lm.lm_head.weight.detach().clone()
    try:
        learn(one, batches(1), ranks)
    except MismatchError:
        told = "as before" if bool((before == one.model.lm.lm_head.weight).all()) else "changed"
        (folder / f"refused_{ranks.rank}.txt").write_text(told)


def miss(folder: Path, ranks: Ranks) -> None:
    """The second rank does not come to update 7; the first waits for it, tells, and lets it go."""
    store = dist.FileStore(str(folder / "told"), 2)
    with ranks.together("publication 6"):
        ranks.same({"x": torch.ones(1)})
    if ranks.is_first:
        _set_pg_timeout(timedelta(seconds=SHORT_S))
        try:
            with ranks.together("update 7"):
                ranks.same({"x": torch.ones(1)})
        except RankError as error:
            (folder / "missed.txt").write_text(str(error))
        store.set("told", "")
    store.wait(["told"], timedelta(seconds=DEADLINE_S))


def wait_for(file: Path) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not file.exists():
        assert time.monotonic() < end_s, f"no {file}"
        time.sleep(0.05)


def main() -> None:
    folder, rank, num = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    ranks = ALONE
    if num > 1:
        ranks = join(dist.FileStore(str(folder / "store"), num), rank, num, DEADLINE_S)
    play(folder, ranks)
    if ranks.is_first:
        (folder / f"played_{num}").touch()
    wait_for(folder / f"played_{3 - num}")
    go_on(folder, ranks)
    if num > 1:
        refuse(folder, ranks)
        miss(folder, ranks)


if __name__ == "__main__":
    main()
