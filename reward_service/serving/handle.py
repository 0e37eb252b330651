"""The client that reaches the service by a Serve handle."""

from collections.abc import Sequence
from typing import Any

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from reward_service.client import Receive, RemoteClient, seconds_until
from reward_service.config import RewardConfig
from reward_service.types import Sample

PING_DEADLINE_S = 5.0
PATIENCE_S = 0.5
"""How much longer than the gateway its client waits: an answer that says "timeout" is better than none."""


class HandleClient(RemoteClient):
    """Scores through a Serve handle; may be sent to other Ray processes. Not for use in an event loop."""

    def __init__(self, handle: DeploymentHandle, config: RewardConfig) -> None:
        super().__init__(
            deadline_s=config.deadline_s,
            num_retries=config.retry.num_retries,
            max_batch_size=config.max_batch_size,
        )
        self._handle = handle

    def _send(self, samples: Sequence[Sample], deadline: float) -> Receive:
        left_s = seconds_until(deadline)
        response = self._handle.score.remote(list(samples), left_s)
        return lambda: _receive(response, seconds_until(deadline) + min(PATIENCE_S, 0.1 * self._deadline_s))

    def ping(self) -> None:
        """Raises TimeoutError or ConnectionError unless every component is there."""
        _receive(self._handle.ping.remote(), PING_DEADLINE_S)

    def stats(self) -> dict[str, dict[str, float]]:
        """What the service counted, by component."""
        answer: dict[str, dict[str, float]] = _receive(self._handle.stats.remote(), PING_DEADLINE_S)
        return answer

    def state_dict(self) -> dict[str, Any]:
        """What the service must not forget over a restart; JSON-able."""
        answer: dict[str, Any] = _receive(self._handle.state.remote(), PING_DEADLINE_S)
        return answer

    def load_state_dict(self, state: dict[str, Any]) -> None:
        _receive(self._handle.load.remote(state), PING_DEADLINE_S)


def _receive(response: Any, timeout_s: float) -> Any:
    """The answer of a replica; what went wrong on the way to it in the words of RemoteClient."""
    try:
        return response.result(timeout_s=timeout_s)
    except TimeoutError:
        response.cancel()
        raise
    except RayTaskError:  # Raised by our own code in the replica: a bug keeps its traceback.
        raise
    except (RayError, RayServeException) as error:
        raise ConnectionError(str(error)) from error
