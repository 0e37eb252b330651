"""The typed client for the HTTP door, for programs outside of the cluster and for other trainers."""

import ssl
from collections.abc import Sequence
from typing import Any

import httpx

from antiphon.errors import UserError
from reward_service.client import Receive, RemoteClient, seconds_until
from reward_service.http.wire import ComponentInfo, ComponentList, ScoreAnswer, ScoreRequest
from reward_service.types import Sample, Score

PATIENCE_S = 1.0
"""How much longer than the service a client waits: an answer that says "timeout" is better than none."""


class HttpClient(RemoteClient):
    """Scores over HTTP; may be sent to other processes, each of which opens connections of its own.

    Example:
        >>> client = HttpClient("http://127.0.0.1:8000", token)
        >>> client.score([Sample(id="a", prompt="sort 5821=", completion="1258", reference="1258")])
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        ca_file: str | None = None,
        deadline_s: float = 60.0,
        num_retries: int = 2,
        max_batch_size: int = 1024,
    ) -> None:
        """
        Args:
            url: the root of the service, "http://127.0.0.1:8000" for instance.
            ca_file: PEM file with the authority behind an https URL; None takes those that the system knows.
        """
        super().__init__(deadline_s=deadline_s, num_retries=num_retries, max_batch_size=max_batch_size)
        self._url, self._token, self._ca_file = url, token, ca_file
        self._http = self._connect()

    def close(self) -> None:
        self._http.close()

    def components(self) -> tuple[ComponentInfo, ...]:
        """What the service scores by.

        Raises:
            UserError: nobody answers at the URL, or not to this token.
        """
        try:
            answer = self._http.get("/v1/components", timeout=self._deadline_s)
        except httpx.TransportError as error:
            raise UserError(
                f"no reward service answers at {self._url}: {error}",
                remedy="check the URL; `antiphon serve-rewards RECIPE` starts a service",
            ) from error
        self._check(answer)
        return ComponentList.model_validate_json(answer.content).components

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_http"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._http = self._connect()

    def _connect(self) -> httpx.Client:
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        return httpx.Client(base_url=self._url, headers=headers, verify=self._trusted())

    def _trusted(self) -> ssl.SSLContext | bool:
        """Whom it believes to be the service."""
        if self._ca_file is None:
            return True
        try:
            return ssl.create_default_context(cafile=self._ca_file)
        except OSError as error:
            raise UserError(
                f"the certificates in {self._ca_file} cannot be read: {error}", remedy="give a PEM file"
            ) from None

    def _send(self, samples: Sequence[Sample], deadline: float) -> Receive:
        return lambda: self._post(samples, deadline)

    def _post(self, samples: Sequence[Sample], deadline: float) -> Sequence[Score]:
        left_s = seconds_until(deadline)
        if left_s == 0.0:
            raise TimeoutError("no time is left to ask")
        body = ScoreRequest(samples=tuple(samples), timeout_s=left_s).model_dump_json()
        headers = {"Content-Type": "application/json"}
        try:
            answer = self._http.post("/v1/score", content=body, headers=headers, timeout=left_s + PATIENCE_S)
        except httpx.TimeoutException as error:
            raise TimeoutError(str(error)) from error
        except httpx.TransportError as error:
            raise ConnectionError(str(error)) from error
        self._check(answer)
        return ScoreAnswer.model_validate_json(answer.content).scores

    def _check(self, answer: httpx.Response) -> None:
        """One exception for each way to go wrong."""
        if answer.status_code in (401, 403):
            raise UserError(
                f"the reward service at {self._url} refuses the token",
                remedy="pass the token that it was started with",
            )
        if answer.is_server_error:
            raise ConnectionError(f"HTTP {answer.status_code}: {answer.text[:200]}")
        if not answer.is_success:
            raise ValueError(f"the reward service refuses the request: {answer.text[:500]}")
