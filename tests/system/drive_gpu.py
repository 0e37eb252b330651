"""A program for test_gpu.py: learner and engine on a make-believe GPU (fakes_gpu.py), beside the CPU.

    python -m tests.system.drive_gpu

Prints a JSON line: by name, how far they are apart, or what was refused.
"""

import json
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedModel

from learner.algorithms.base import Algorithm
from learner.algorithms.dqn import DQN
from learner.algorithms.grpo import GRPO
from learner.algorithms.ilql import ILQL
from learner.algorithms.ppo import PPO
from learner.algorithms.soft_q import SoftQ
from learner.learner import Learner
from learner.learner_config import LearnerConfig
from learner.optimizer import OptimizerConfig
from learner.process import expected_accuracy
from learner.state import load_state, save_state
from learner.supervised import SupervisedConfig, supervise
from rollout.engines.torch_engine import TorchEngine
from rollout.types import Request, Sampling
from rollout.weights import pack
from tests.learner.fakes_groups import random_groups
from tests.learner.fakes_models import tiny_llama
from tests.rollout.fakes_engines import EOS, requests_of_all_lengths, tiny_model
from tests.rollout.fakes_guides import opinionated
from tests.system.fakes_gpu import GPU, gpu

CPU = torch.device("cpu")
ALGORITHMS: dict[str, Callable[[], Algorithm]] = {
    "grpo": lambda: GRPO(GRPO.Config()),
    "ppo": lambda: PPO(PPO.Config(kl={"place": "loss"})),  # type: ignore[arg-type]
    "dqn": lambda: DQN(DQN.Config()),
    "soft_q": lambda: SoftQ(SoftQ.Config()),
    "ilql": lambda: ILQL(ILQL.Config()),
}
PAIRS = [((3, 4), (5, 2)), ((6,), (7, 8, 2))]


class OnGpuConfig(LearnerConfig):
    """A learner's, in a process that has the GPU."""

    @property
    def torch_device(self) -> torch.device:
        return GPU


def untied(model: PreTrainedModel) -> PreTrainedModel:
    """The make-believe GPU tears tied parameters apart."""
    unembedding: Any = model.get_output_embeddings()
    unembedding.weight = nn.Parameter(unembedding.weight.detach().clone())
    return model


def learned(make: Callable[[], Algorithm], device: torch.device) -> list[float]:
    """The metrics of two updates and of one after a checkpoint."""
    groups = random_groups(4, 3, seed=1)
    config = (OnGpuConfig if device == GPU else LearnerConfig)(
        optimizer=OptimizerConfig(lr=1e-3),
        max_tokens_per_micro_batch=64,
        max_mismatch=None,
        max_lagged_mismatch=None,
        device="cpu",
    )
    lm = untied(tiny_llama())
    learner = Learner(config, make(), lm, sampling=Sampling(), num_updates=10, seed=0)
    reports = [learner.update(groups) for _ in range(2)]
    learner.weights(2)
    with tempfile.TemporaryDirectory() as folder:
        save_state(learner.state_dict(), Path(folder), "learner")
        learner.load_state_dict(load_state(Path(folder), "learner"))
    reports.append(learner.update(groups))
    return [report[name] for report in reports for name in sorted(report)]


def supervised(device: torch.device) -> list[float]:
    """What the warm-up of a learner does."""
    lm = nn.Module.to(untied(tiny_llama()), device)
    assert isinstance(lm, PreTrainedModel)
    report = supervise(lm, PAIRS, SupervisedConfig(num_steps=3, batch_size=2))
    return [report["loss/supervised"], expected_accuracy(lm, PAIRS)]


def played(device: torch.device, asked: list[Request], is_graphed: bool, has_guide: bool) -> list[float]:
    """Tokens and log-probs of completions, of which some see new weights midway."""
    model = untied(tiny_model("long"))
    guide = opinionated(model) if has_guide else None
    new = untied(tiny_model("long", seed=1))
    tensors = {
        **new.state_dict(),
        **{f"guide.{n}": x for n, x in (guide.state_dict() if guide else {}).items()},
    }
    place: Literal["auto", "cpu"] = "cpu" if device == CPU else "auto"
    config = TorchEngine.Config(num_slots=5, device=place, is_graphed=is_graphed, is_native=False)
    engine = TorchEngine(config, nn.Module.to(model, device), (EOS,))  # type: ignore[arg-type]
    if guide is not None:
        engine.follow(guide)
    engine.policy_version = 0
    done = dict(enumerate(engine.generate(asked)))
    tickets = [engine.submit(request) for request in asked[:5]]
    for _ in range(3):
        done |= engine.step()
    engine.load(pack(1, tensors))
    while engine.has_work:
        done |= engine.step()
    assert set(tickets) < set(done)
    return [x for key in sorted(done) for c in [done[key]] for x in (*map(float, c.token_ids), *c.logprobs)]


def apart(work: Callable[[torch.device], list[float]]) -> float | str:
    """How far the two are from each other, at most; or what was refused."""
    found = []
    for device in (CPU, GPU):
        try:
            with gpu() if device == GPU else nullcontext():
                found.append(work(device))
        except (RuntimeError, NotImplementedError, TypeError) as error:
            return f"{device}: {str(error).splitlines()[0]}"
    one, two = found
    return float("inf") if len(one) != len(two) else max(abs(a - b) for a, b in zip(one, two, strict=True))


def main() -> None:
    told: dict[str, float | str] = {"supervised": apart(supervised)}
    for name, make in ALGORITHMS.items():
        told[name] = apart(lambda device, make=make: learned(make, device))  # type: ignore[misc]
    samplings: dict[str, dict[str, Any]] = {
        "plain": {},
        "truncated": {"top_k": 5, "top_p": 0.9, "epsilon": 0.1},
        "guided": {"beta": 2.0},
    }
    for name, sampling in samplings.items():
        asked = requests_of_all_lengths(9, **sampling)
        for is_graphed in (False, True):
            told[f"{name}, {'fixed memory' if is_graphed else 'as it comes'}"] = apart(
                lambda d, a=asked, g=is_graphed, n=name: played(d, a, g, n == "guided")  # type: ignore[misc]
            )
    told["mixed"] = apart(lambda device: (torch.ones(3, device=device) + torch.ones(3)).tolist())
    print(json.dumps(told))


if __name__ == "__main__":
    main()
