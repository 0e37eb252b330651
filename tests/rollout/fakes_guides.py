"""Q functions that have opinions, and what is played under them, computed in the plainest way."""

import copy
from typing import ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rollout.engines.scripted import ScriptedEngine
from rollout.engines.torch_engine import TorchEngine
from rollout.q_function import QConfig, QFunction, for_model
from rollout.types import Completion, Request
from tests.rollout.fakes_engines import EOS

FORMS = {
    "full": QConfig(form="full", hidden_size=0, num_q=2),
    "low_rank": QConfig(form="low_rank", hidden_size=12, rank=5, num_q=2),
    "tied": QConfig(form="tied", hidden_size=12, num_q=3),
}


class MuteEngine(ScriptedEngine):
    """Plays models alone."""

    name: ClassVar[str] = "mute"
    can_play_q: ClassVar[bool] = False


def opinionated(model: PreTrainedModel, form: str = "low_rank", seed: int = 0) -> QFunction:
    """Its Q-values differ by one or so from token to token, from state to state, and from head to head."""
    guide = for_model(FORMS[form], model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return guide


def guided_engine(model: PreTrainedModel, guide: QFunction, num_slots: int = 4) -> TorchEngine:
    engine = TorchEngine(
        TorchEngine.Config(num_slots=num_slots, max_prefill_tokens=32), copy.deepcopy(model), (EOS,)
    )
    engine.follow(copy.deepcopy(guide))
    engine.policy_version = 0
    return engine


@torch.no_grad()
def played_plainly(
    model: PreTrainedModel, guide: QFunction, token_ids: tuple[int, ...], request: Request
) -> Tensor:
    """[T, V] float64: what follows each place of the sequence; one sequence, no cache, word for word."""
    sampling = request.sampling
    hidden = model.base_model(input_ids=torch.tensor([token_ids]), use_cache=False).last_hidden_state[0]
    logits = model.get_output_embeddings()(hidden).double()
    q = torch.stack([x.double() for x in guide.all(hidden.float())])
    advantages = q.min(0).values - guide.value(hidden.float()).double()[:, None]
    rows = []
    for logit, advantage in zip(logits, advantages, strict=True):
        p = (logit / (sampling.temperature or 1.0)).softmax(-1)
        if sampling.top_k:
            worst_kept = p.topk(sampling.top_k).values[-1]
            p = torch.where(p >= worst_kept, p, 0.0)
        kept = p > 0
        p = p * (sampling.beta * advantage).exp()
        p = p / p.sum()
        if sampling.temperature == 0.0:
            p = torch.nn.functional.one_hot(p.argmax(), len(p)).double()
        rows.append((1 - sampling.epsilon) * p + sampling.epsilon * kept / kept.sum())
    return torch.stack(rows)


def off_by(
    model: PreTrainedModel, guide: QFunction, requests: list[Request], completions: list[Completion]
) -> float:
    """The largest difference between a logprob of the engine and the plain one."""
    worst = 0.0
    for request, completion in zip(requests, completions, strict=True):
        sequence = request.token_ids + completion.token_ids
        played = played_plainly(model, guide, sequence[:-1], request)[len(request.token_ids) - 1 :]
        wanted = played.gather(1, torch.tensor(completion.token_ids)[:, None]).squeeze(1).log()
        worst = max(worst, float((torch.tensor(completion.logprobs) - wanted).abs().max()))
    return worst
