"""Who may read the numbers of a run: a token in front of the endpoint that Prometheus scrapes.

Used by metrics.py. The numbers hold no text of anybody, but they say what is trained, how well, and when.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Iterable
from typing import Any

from antiphon.errors import UserError
from antiphon.secrets import read_secret

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""A WSGI application."""


def token_for(host: str, variable: str, is_open: bool) -> str | None:
    """The token that a scraper must show; None lets everybody in who reaches `host`.

    Raises:
        UserError: others than this machine reach it, there is no token, and nobody said that it is open.
    """
    token = read_secret(variable)
    if token is None and not is_open and not _is_loopback(host):
        raise UserError(
            f"metrics.prometheus_host is {host!r}, which others can reach, and {variable} is not set",
            remedy=f"export {variable}=… (or {variable}_FILE) with a long random token, listen at 127.0.0.1, "
            "or set metrics.is_open: true where a firewall decides who may scrape",
        )
    return token


def guarded(app: Application, token: str | None) -> Application:
    """The same application for those who show the token as `Authorization: Bearer …`."""
    if token is None:
        return app
    expected = hashlib.sha256(token.encode()).digest()

    def door(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        scheme, _, shown = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        # Digests of one length, compared in constant time: an answer's delay tells nothing about the token.
        is_same = hmac.compare_digest(hashlib.sha256(shown.strip().encode("latin-1")).digest(), expected)
        if scheme.lower() == "bearer" and is_same:
            return app(environ, start_response)
        start_response("401 Unauthorized", [("WWW-Authenticate", "Bearer"), ("Content-Type", "text/plain")])
        return [b"a bearer token is needed\n"]

    return door


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
