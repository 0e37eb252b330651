"""The alarm for a sampler and a learner that do not speak of the same distribution."""

from torch import Tensor

from antiphon.errors import UserError
from learner.batch import Batch
from learner.functional.aggregate import masked_mean
from rollout.types import Sampling


class MismatchError(RuntimeError):
    """Sampler and learner disagree about the probabilities of the same tokens under the same weights."""


def check_mismatch(batch: Batch, version: int, max_current: float | None, max_lagged: float | None) -> None:
    """Refuse a batch whose log-probs are not the sampler's. Needs the stream "logprob_prox".

    Tokens that the learner's own version drew must agree closely. With lag, log-probs differ as they should,
    so that the other bound is loose: it finds weights that did not arrive.

    Raises:
        MismatchError: the mean of |Δ log-prob| over such action tokens is above its bound (nats).
    """
    is_current = (batch.token_version == version) & batch.action_mask
    _check(batch, is_current, f"of the learner's own version {version}", max_current, "max_mismatch")
    is_lagged = ~is_current & batch.action_mask
    _check(batch, is_lagged, "with lag", max_lagged, "max_lagged_mismatch")


def check_sampling(sampling: Sampling, is_off_policy: bool = False) -> None:
    """Refuse to train on tokens whose distribution the learner cannot recompute, as far as it has to.

    Raises:
        UserError: greedy sampling; unless off policy, where nobody forms ratios, also truncated sampling, a
            share of uniform tokens, or a Q function beside the model.
    """
    wrong = {
        "temperature": sampling.temperature == 0,
        "top_p": sampling.top_p < 1 and not is_off_policy,
        "top_k": sampling.top_k > 0 and not is_off_policy,
        "beta": sampling.beta > 0 and not is_off_policy,
        "epsilon": sampling.epsilon > 0 and not is_off_policy,
    }
    for name in (name for name, is_wrong in wrong.items() if is_wrong):
        raise UserError(
            f"sampling.{name} is {getattr(sampling, name)}: the learner scores tokens under the whole "
            "softmax, so ratios would be wrong",
            remedy="train with temperature > 0, and the other settings of sampling as they are by default; "
            "truncate in evaluation only",
        )


def _check(batch: Batch, mask: Tensor, which: str, bound: float | None, setting: str) -> None:
    if bound is None or not bool(mask.any()):
        return
    mean = float(masked_mean((batch["logprob_prox"] - batch.logprob_behaviour).abs(), mask))
    if not mean <= bound:
        raise MismatchError(
            f"log-probs of sampler and learner differ by {mean:.4f} nats on average over tokens {which}, "
            f"{bound} is allowed. Likely causes: another temperature or truncated sampling on one side, "
            f"weights that did not arrive, a lower precision in the engine (then raise learner.{setting})"
        )
