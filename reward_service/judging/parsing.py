"""The one form of a judge's reply that counts. Pure functions; called by the judge components.

The last line is `Score: 7` or `Better: A`, and no other line has that form. A number elsewhere in the reply
means nothing: it may be a quotation, a count, or what the judged text asked for.
"""

import math
import re
from collections.abc import Sequence

from reward_service.reward import Unparseable

SCORE = re.compile(r"Score: *(-?[0-9]{1,6}(?:\.[0-9]{1,6})?)")
BETTER = re.compile(r"Better: *(A|B|tie)")
NUM_SHOWN = 120
"""Characters of a reply that a message shows."""


def score_in(reply: str, scale: tuple[int, int]) -> float:
    """The score that the last line gives, between the ends of the scale.

    Raises:
        Unparseable: another form, several such lines, or a number outside of the scale.
    """
    score = float(_last_line(reply, SCORE, "Score: <number>"))
    low, high = scale
    if not low <= score <= high:
        raise Unparseable(f"the judge gives {score:g} on a scale from {low} to {high}")
    return score


def left_share_in(reply: str, *, has_tie: bool) -> float:
    """1 where the last line says A, 0 where B, 0.5 where tie.

    Raises:
        Unparseable: another form, several such lines, or a tie that was not offered.
    """
    word = _last_line(reply, BETTER, "Better: <letter>")
    if word == "tie" and not has_tie:
        raise Unparseable("the judge says tie, which was not offered")
    return {"A": 1.0, "B": 0.0, "tie": 0.5}[word]


def expected(values: Sequence[float], shares: Sequence[float], min_share: float) -> float:
    """Σ p_i v_i / Σ p_i: the mean of the options' values under the judge's probabilities.

    Reading the whole distribution and not its most probable word makes a finer score (G-Eval, Liu et al.
    2023, arXiv:2303.16634).

    Args:
        values: [n], what each option is worth.
        shares: [n], the probability of each option.
        min_share: the least Σ p_i; below, the judge meant to say something else.

    Raises:
        Unparseable: too little lies on the options.
        ValueError: the lengths differ.
    """
    if len(values) != len(shares):
        raise ValueError(f"{len(values)} options need as many shares, got {len(shares)}")
    total = math.fsum(shares)
    if not total >= min_share or total <= 0.0:
        raise Unparseable(f"the judge puts {total:.3g} on the options together, less than {min_share:g}")
    return math.fsum(v * p for v, p in zip(values, shares, strict=True)) / total


def _last_line(reply: str, form: re.Pattern[str], wanted: str) -> str:
    lines = [line.strip() for line in reply.strip().splitlines()]
    fitting = [match for line in lines if (match := form.fullmatch(line))]
    if not fitting or not form.fullmatch(lines[-1]):
        end = reply.strip()[-NUM_SHOWN:]
        raise Unparseable(f"the last line of the reply is not {wanted!r}: {end!r}")
    if len(fitting) > 1:
        raise Unparseable(f"{len(fitting)} lines of the reply have the form {wanted!r}")
    return fitting[0][1]
