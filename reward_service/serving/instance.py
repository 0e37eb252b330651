"""The Serve instance that applications run in: one per cluster, with a port only where asked for."""

import errno
import logging
import socket
import ssl

import ray
from ray import serve
from ray.exceptions import RayTaskError
from ray.serve.config import HTTPOptions, ProxyLocation
from ray.serve.schema import LoggingConfig

from antiphon.errors import UserError
from reward_service.config import HttpConfig

QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)


def start_serve_outside(http: HttpConfig) -> None:
    """Starts Serve from here, or, where this process is inside a placement group, from a task outside of it.

    What such a process starts goes into its group (a trial of Tune is one): Serve's controller does not fit
    there, and would end with it.
    """
    if ray.util.get_current_placement_group() is None:
        _start_serve(http)
        return
    outside = ray.remote(num_cpus=0)(_start_serve).options(scheduling_strategy="DEFAULT")
    try:
        ray.get(outside.remote(http))
    except RayTaskError as error:
        raise error.as_instanceof_cause() from None


def _start_serve(http: HttpConfig) -> None:
    """Serve, with a port only where asked for; one that runs already is left as it is."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    if not http.enabled:
        serve.start(proxy_location=ProxyLocation.Disabled, logging_config=QUIET)
        return
    if not serve.status().proxies:
        _check_port(http)
    check_certificate(http)
    options = HTTPOptions(
        host=http.host, port=http.port, ssl_certfile=http.certificate, ssl_keyfile=http.private_key_file
    )
    serve.start(proxy_location=ProxyLocation.HeadOnly, http_options=options, logging_config=QUIET)
    if not serve.status().proxies:
        raise UserError(
            "reward.http is enabled, but Ray Serve runs in this cluster already, without a port",
            remedy="stop it with `serve shutdown`, or start the run with the HTTP door before the others",
        )


def check_certificate(http: HttpConfig) -> None:
    """Raises UserError where the files do not fit; Serve itself would try again for ever."""
    if http.certificate is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(http.certificate, http.private_key_file)
    except OSError as error:
        raise UserError(
            f"the door cannot speak HTTPS with {http.certificate} and {http.private_key_file}: {error}",
            remedy="give PEM files that belong together and that this user may read",
        ) from None


def _check_port(http: HttpConfig) -> None:
    """Raises UserError if another program listens at the port; Serve itself would try again for ever."""
    with socket.socket(socket.AF_INET6 if ":" in http.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((http.host, http.port))
        except OSError as error:
            # An address of the head node need not be one of this machine; a port in use is one.
            if error.errno == errno.EADDRINUSE:
                raise UserError(
                    f"reward.http.port is {http.port}, where another program listens",
                    remedy="set reward.http.port to a free port",
                ) from None
