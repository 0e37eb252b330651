"""What the main loop tells: its updates, measurements and events. It knows nobody who listens."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cluster.evaluation import Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What is told to whoever watches. The loop calls them and expects nothing back."""

    on_update: Callable[[int, Mapping[str, float]], None]
    on_measurement: Callable[[int, Measurement], None]
    on_event: Callable[..., None]
