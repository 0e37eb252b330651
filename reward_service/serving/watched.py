"""A deadline that holds even where a component never gives the interpreter back."""

import faulthandler
from collections.abc import Callable, Sequence

from reward_service.client import seconds_until
from reward_service.types import Sample, Score

STDERR = 2
"""The file descriptor itself: Ray replaces sys.stderr."""
MARGIN_S = 0.2
"""How long after the deadline the process is given up."""

ScoreUntil = Callable[[Sequence[Sample], float], list[Score]]


def watched(score: ScoreUntil, samples: Sequence[Sample], deadline: float) -> list[Score]:
    """Scores; what is still being scored when its time is up ends the process, with its stacks on stderr.

    Nobody waits for it any more, and what hangs would hang the next request too. The watch is faulthandler's,
    because a regex that does not end holds the interpreter lock for ever.
    """
    left_s = seconds_until(deadline)
    if left_s == 0.0:
        raise TimeoutError("the request waited until its time was up")
    faulthandler.dump_traceback_later(left_s + MARGIN_S, exit=True, file=STDERR)
    try:
        return score(samples, deadline)
    finally:
        faulthandler.cancel_dump_traceback_later()
