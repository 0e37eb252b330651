"""Seconds of one update, beside the same update written plainly with transformers.

    python -m benchmarks.update --model tiny --prompts 8 --samples 8 --max-new 64
    python -m benchmarks.update --model smollm2-135m --autocast --prompts 4 --samples 8 --max-new 64

One GRPO step on the same tokens and scores: group-relative advantages, clipped surrogate, AdamW in fp32. The
plain one is what a trainer does that knows nothing of its batch: all rows padded to the longest, prompts and
all, logits [B, T, V] for every position, log_softmax, backward, step. Rounds alternate, the medians count;
the first losses are equal. Prints one JSON line; --memory adds the highest memory of a process for each, and
--profile where the time of one update of ours goes.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import torch
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile
from transformers import PreTrainedModel

from benchmarks.rollout import LOWEST_TOKEN_ID, PROMPT_LENGTHS, open_model
from learner.algorithms.grpo import GRPO
from learner.batch import Batch
from learner.learner import Learner, LearnerConfig
from learner.optimizer import OptimizerConfig
from reward_service.types import Score, Status
from rollout.types import Group, Prompt, Sampling, Trajectory

LR = 1e-6
CLIP = 0.2
MIN_LENGTH = 8


Sampled = Callable[[PreTrainedModel, tuple[int, ...], tuple[int, ...]], tuple[float, ...]]
"""Log-probs of what was drawn after a prompt."""


@torch.no_grad()
def logprobs_of(model: PreTrainedModel, prompt: tuple[int, ...], drawn: tuple[int, ...]) -> tuple[float, ...]:
    """As a sampler would have reported them."""
    token_ids = torch.tensor([prompt + drawn])
    logits = model(input_ids=token_ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
    return tuple(logits.log_softmax(-1).gather(1, token_ids[0, len(prompt) :, None]).squeeze(1).tolist())


def make_groups(
    options: argparse.Namespace, model: PreTrainedModel, sampled: Sampled = logprobs_of
) -> list[Group]:
    """Completions of 8 to --max-new tokens, or all of --max-new with --full; scores of 0 and 1."""
    draw = random.Random(0)
    vocab_size = model.config.get_text_config().vocab_size

    def tokens(num: int) -> tuple[int, ...]:
        return tuple(draw.randrange(LOWEST_TOKEN_ID, vocab_size) for _ in range(num))

    groups = []
    for index in range(options.prompts):
        prompt = tokens(draw.randint(*PROMPT_LENGTHS))
        rows, scores = [], []
        for number in range(options.samples):
            drawn = tokens(options.max_new if options.full else draw.randint(MIN_LENGTH, options.max_new))
            rows.append(
                Trajectory(
                    token_ids=prompt + drawn,
                    action_mask=(False,) * len(prompt) + (True,) * len(drawn),
                    logprobs=(0.0,) * len(prompt) + sampled(model, prompt, drawn),
                    finish_reason="length",
                    policy_version_min=0,
                    policy_version_max=0,
                    completion_text="",
                )
            )
            scores.append(Score(id=f"0/{index}/{number}", value=float(number % 2), status=Status.OK))
        groups.append(
            Group(
                epoch=0,
                index=index,
                prompt=Prompt(id=str(index), token_ids=prompt, text=""),
                policy_version=0,
                trajectories=tuple(rows),
                scores=tuple(scores),
            )
        )
    return groups


def our_update(
    model: PreTrainedModel, groups: list[Group], options: argparse.Namespace
) -> Callable[[], float]:
    """Our learner; returns the policy's loss."""
    config = LearnerConfig(
        optimizer=OptimizerConfig(lr=LR),
        autocast="bfloat16" if options.autocast else "none",
        max_tokens_per_micro_batch=options.micro_tokens,
        max_mismatch=None,
        max_lagged_mismatch=None,
        device="cpu",
    )
    algorithm = GRPO(GRPO.Config(aggregation="token_mean"))
    learner = Learner(config, algorithm, model, sampling=Sampling(), num_updates=1000, seed=0)
    return lambda: learner.update(groups)["loss/policy"]


def plain_update(
    model: PreTrainedModel, groups: list[Group], options: argparse.Namespace
) -> Callable[[], float]:
    """The same step without any care; returns its loss."""
    batch = Batch.from_groups(groups)
    score = batch.score.float().view(-1, options.samples)
    advantage = ((score - score.mean(1, keepdim=True)) / (score.std(1, keepdim=True) + 1e-6)).flatten()
    is_real = torch.arange(batch.token_ids.shape[1]) < batch.lengths[:, None]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.0)

    def run() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=options.autocast):
            logits = model(input_ids=batch.token_ids, attention_mask=is_real.long(), use_cache=False).logits
        logprob = functional.log_softmax(logits[:, :-1].float(), dim=-1)
        taken = logprob.gather(2, batch.token_ids[:, 1:, None]).squeeze(2)
        ratio = (taken - taken.detach()).exp()
        clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
        surrogate = -torch.minimum(ratio * advantage[:, None], clipped * advantage[:, None])
        mask = batch.action_mask[:, 1:]
        loss = (surrogate * mask).sum() / mask.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return run


def highest_mib() -> float:
    """Of this process since its program began; rusage would count what its parent had, too."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def operations_ms(step: Callable[[], float]) -> dict[str, float]:
    """Milliseconds that one step spends in each operation itself, on the clock; the longest ten."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        step()
    longest = sorted(seen.key_averages(), key=lambda event: -event.self_cpu_time_total)
    return {event.key: round(event.self_cpu_time_total / 1000, 1) for event in longest[:10]}


MAKERS = {"ours": our_update, "plain": plain_update}


def peak_mib(side: str) -> float:
    """The highest memory of a process that does only this side's updates."""
    command = [sys.executable, "-m", "benchmarks.update", *sys.argv[1:], "--only", side]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["peak_mib"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny", help="tiny, a folder, or a model's name")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--max-new", type=int, default=64)
    parser.add_argument("--full", action="store_true", help="all completions are --max-new long")
    parser.add_argument("--autocast", action="store_true", help="bf16 products, fp32 weights")
    parser.add_argument("--micro-tokens", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", action="store_true", help="measure the highest memory of each, too")
    parser.add_argument("--profile", action="store_true", help="say which operations ours spends its time in")
    parser.add_argument("--only", choices=tuple(MAKERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = open_model(options.model, torch.float32)
    groups = make_groups(options, model)
    if options.only:
        step = MAKERS[options.only](model, groups, options)
        step()
        step()
        print(json.dumps({"peak_mib": highest_mib()}))
        return
    steps = {name: make(deepcopy(model), groups, options) for name, make in MAKERS.items()}
    taken: dict[str, list[float]] = {name: [] for name in steps}
    losses: dict[str, float] = {}
    for _ in range(options.rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            loss = step()
            taken[name].append(time.perf_counter() - start)
            losses.setdefault(name, loss)
    seconds = {name: statistics.median(times[1:]) for name, times in taken.items()}
    result = {
        "benchmark": "update",
        **{name: value for name, value in vars(options).items() if name not in ("only", "memory", "profile")},
        "tokens": sum(g.num_tokens for g in groups),
        "seconds": seconds,
        "ratio": seconds["plain"] / seconds["ours"],
        "losses": losses,
    }
    if options.memory:
        result["peak_mib"] = {name: peak_mib(name) for name in MAKERS}
    if options.profile:
        result["operations_ms"] = operations_ms(steps["ours"])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
