"""The alarm for a sampler and a learner that do not speak of the same distribution."""

from learner.batch import Batch
from learner.functional.aggregate import masked_mean


class MismatchError(RuntimeError):
    """Sampler and learner disagree about the probabilities of the same tokens under the same weights."""


def check_mismatch(batch: Batch, version: int, max_mismatch: float | None) -> None:
    """Refuse a batch whose log-probs are not the sampler's. Needs the stream "logprob_prox".

    Only rows made by the learner's own version are looked at: with lag, log-probs differ as they should.

    Raises:
        MismatchError: the mean of |Δ log-prob| over their action tokens is above `max_mismatch` (nats).
    """
    is_current = (batch.policy_version == version)[:, None] & batch.action_mask
    if max_mismatch is None or not bool(is_current.any()):
        return
    mean = float(masked_mean((batch["logprob_prox"] - batch.logprob_behaviour).abs(), is_current))
    if not mean <= max_mismatch:
        raise MismatchError(
            f"log-probs of sampler and learner differ by {mean:.4f} nats on average under policy version "
            f"{version}, {max_mismatch} is allowed. Likely causes: another temperature or truncated sampling "
            "on one side, weights that did not arrive, a lower precision in the engine "
            "(then raise learner.max_mismatch)"
        )
