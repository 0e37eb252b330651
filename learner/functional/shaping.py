"""Changes to a score that are about form, made after scoring, so that the raw score stays what it was."""

import torch
from torch import Tensor

from learner.functional.checks import same_shape


def overlong_penalty(num_tokens: Tensor, max_tokens: int, buffer: int) -> Tensor:
    """DAPO's soft overlong punishment (2503.14476): 0 up to `max_tokens − buffer`, then a straight line down
    to −1 at `max_tokens`. [B] -> [B]

    Raises:
        ValueError: a buffer that is not within 1 … max_tokens.
    """
    same_shape(1, num_tokens=num_tokens)
    if not 1 <= buffer <= max_tokens:
        raise ValueError(f"buffer must be within 1 … {max_tokens}, got {buffer}")
    excess = num_tokens - (max_tokens - buffer)
    return -torch.clamp(excess / buffer, 0.0, 1.0)
