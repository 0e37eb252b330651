"""The next token of each row: by one kernel where a row just draws from the model, else by the whole formula.

Called by the torch engine. Which way a row goes depends on the row alone, so that it draws the same in any
company.
"""

from torch import Tensor

from antiphon.native.kernels import Kernels
from rollout.engines.guidance import Controls, played
from rollout.engines.sampling import pick


def draw(
    logits: Tensor, advantages: Tensor | None, controls: Controls, uniform: Tensor, kernels: Kernels | None
) -> tuple[Tensor, Tensor]:
    """See `played` for the distribution and `pick` for the draw.

    Args:
        logits: [N, V].
        advantages: [N, V] Q̄ − V; None where no row has β > 0.
        controls: N rows.
        uniform: [N] float64 in [0, 1).
        kernels: Of the dtype of the logits; None where there are none.

    Returns:
        Token ids [N] int64 and their log-probabilities [N] float32 (NaN where the row is not finite).
    """
    if kernels is None:
        return pick(played(logits, advantages, controls), uniform)
    is_plain = controls.is_plain
    if bool(is_plain.all()):
        return kernels.draw(logits, controls.temperature, uniform)
    others = ~is_plain
    token = uniform.new_empty(len(uniform)).long()
    logprob = uniform.new_empty(len(uniform)).float()
    token[is_plain], logprob[is_plain] = kernels.draw(
        logits[is_plain], controls.temperature[is_plain], uniform[is_plain]
    )
    moved = None if advantages is None else advantages[others]
    token[others], logprob[others] = pick(
        played(logits[others], moved, controls.only(others)), uniform[others]
    )
    return token, logprob
