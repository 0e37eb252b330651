"""Estimators of KL(π ‖ π_ref) from tokens drawn from π. x = log π − log π_ref; all tensors [B, T].

http://joschu.net/blog/kl-approx.html
"""

from typing import Literal

from torch import Tensor

from learner.functional.policy_loss import log_ratio

Estimator = Literal["k2", "k3"]
_MAX_K3 = 10.0
"""k3 grows like e^|x|; one token beyond this bound would be the whole loss."""


def k1(logprob: Tensor, logprob_ref: Tensor) -> Tensor:
    """x: unbiased; for the reward. As a loss its gradient has expectation 0, so it is not offered as one."""
    return log_ratio(logprob, logprob_ref)


def k2(logprob: Tensor, logprob_ref: Tensor) -> Tensor:
    """½x²: small bias, and its gradient on samples of π is exactly that of the KL."""
    return 0.5 * log_ratio(logprob, logprob_ref) ** 2


def k3(logprob: Tensor, logprob_ref: Tensor) -> Tensor:
    """e^(−x) − 1 + x: unbiased and never negative."""
    x = log_ratio(logprob, logprob_ref)
    return ((-x).exp() - 1.0 + x).clamp(max=_MAX_K3)


def penalty(logprob: Tensor, logprob_ref: Tensor, estimator: Estimator) -> Tensor:
    """A KL to be put into the loss: the value of k2 or k3, always with the gradient of k2."""
    quadratic = k2(logprob, logprob_ref)
    if estimator == "k2":
        return quadratic
    return quadratic - quadratic.detach() + k3(logprob, logprob_ref).detach()
