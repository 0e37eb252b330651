"""What a process counts of itself while it works, for whoever watches. Called by the Ray shells of the parts.

Where the numbers go is said by whoever starts the process: cluster/ray_meters.py hands them to the metrics
endpoint of the node. Nothing here knows Ray or Prometheus.
"""

from typing import Protocol


class Meters(Protocol):
    """Counters and gauges under our names, such as `actor/load_seconds_total`."""

    def add(self, name: str, amount: float) -> None:
        """Raise a counter; its name ends in `_total`, and the amount is not negative."""
        ...

    def set(self, name: str, value: float) -> None:
        """The newest value of something that rises and falls."""
        ...
