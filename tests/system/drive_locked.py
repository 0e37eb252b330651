"""A program for test_locked_ray.py: a run on Ray, and what a stranger on the same network sees of it.

    python tests/system/drive_locked.py RECIPE FOLDER

It runs in namespaces of its own. While the run waits at a gate (fakes_parts.py), every port that listens is
looked at; what was seen is written as JSON.
"""

import json
import os
import socket
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
from antiphon.errors import UserError  # noqa: E402
from reward_service.http import HttpClient  # noqa: E402
from reward_service.types import Sample  # noqa: E402
from tests.system.fakes_runs import run_cli  # noqa: E402

HERE = "127.0.0.1"
DOOR = f"{HERE}:8000"
DEADLINE_S = 300.0
PATIENCE_S = 30.0
METHOD = "/ray.serve.ASGIService/HandleRequest"
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""How a client begins to speak HTTP/2, which is below gRPC."""


def main(recipe: Path, folder: Path) -> None:
    with ThreadPoolExecutor(1) as threads:
        looked = threads.submit(look, folder)
        code = run_cli("train", recipe, "--run-dir", folder / "run")
        facts = {"exit_code": code, **looked.result()}
    (folder / "facts.json").write_text(json.dumps(facts))


def look(folder: Path) -> dict[str, Any]:
    """While an actor is at version 1."""
    gates = folder / "gates"
    try:
        deadline_s = time.monotonic() + DEADLINE_S
        while not list(gates.glob("at_1_*")):
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"no actor came to version 1 within {DEADLINE_S:.0f} s")
            time.sleep(0.1)
        found = listening()
        kinds = {port: kind_of(HERE if address == "*" else address, port) for address, port, _ in found}
        without_token = {port: call_replica(port) for address, port, _ in found if address == "*"}
        return {
            "listening": found,
            "kinds": kinds,
            "without token": without_token,
            "ray": ports_of_ray(),
            "door": door(folder),
        }
    finally:
        (gates / "hold_1").unlink()


def listening() -> list[tuple[str, int, str]]:
    """Address, port and process of all that listens in this namespace."""
    told = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    found = []
    for _, _, _, place, _, process in (line.split() for line in told.splitlines()):
        address, _, port = place.rpartition(":")
        found.append((address.strip("[]").removeprefix("::ffff:"), int(port), process))
    return found


def kind_of(address: str, port: int) -> str:
    """`plain` answers anybody in plain HTTP, `https` anybody who asks so, `mutual` members of the cluster."""
    if ask_plainly(address, port).startswith(b"HTTP/"):
        return "plain"
    if handshake(address, port, is_member=False):
        return "https"
    return "mutual" if handshake(address, port, is_member=True) else "silent"


def call_replica(port: int) -> str:
    """What a replica of Serve says to a member with a certificate, but without the token."""
    files = (os.environ[f"RAY_TLS_{name}"] for name in ("CA_CERT", "SERVER_KEY", "SERVER_CERT"))
    credentials = grpc.ssl_channel_credentials(*(Path(file).read_bytes() for file in files))
    with grpc.secure_channel(f"{HERE}:{port}", credentials) as channel:
        try:
            channel.unary_unary(METHOD)(b"", timeout=PATIENCE_S)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "answers"


def ask_plainly(address: str, port: int) -> bytes:
    try:
        with socket.create_connection((address, port), PATIENCE_S) as plain:
            return say(plain, b"GET / HTTP/1.0\r\n\r\n")
    except OSError:
        return b""


def handshake(address: str, port: int, *, is_member: bool) -> bool:
    """Whether a server answers who trusts the authority, with a certificate by it or without one."""
    context = ssl.create_default_context(cafile=os.environ["RAY_TLS_CA_CERT"])
    context.set_alpn_protocols(["h2"])
    if is_member:
        context.load_cert_chain(os.environ["RAY_TLS_SERVER_CERT"], os.environ["RAY_TLS_SERVER_KEY"])
    try:
        with (
            socket.create_connection((address, port), PATIENCE_S) as plain,
            context.wrap_socket(plain, server_hostname=HERE) as secured,
        ):
            return bool(say(secured, HTTP2))
    except OSError:
        return False


def say(connection: socket.socket, words: bytes) -> bytes:
    """The first bytes of the answer."""
    connection.sendall(words)
    return connection.recv(64)


def ports_of_ray() -> dict[str, int]:
    import ray

    (node,) = ray.nodes()
    names = ("NodeManagerPort", "ObjectManagerPort", "MetricsAgentPort", "MetricsExportPort")
    gcs = ray.get_runtime_context().gcs_address.rpartition(":")[2]
    return {"GcsPort": int(gcs), **{name: node[name] for name in names}}


def door(folder: Path) -> dict[str, str]:
    """What the door of the reward service says to who knows the authority and the token, and to others."""
    token, ca = os.environ["ANTIPHON_REWARD_TOKEN"], os.environ["RAY_TLS_CA_CERT"]
    return {
        "known": ask(f"https://{DOOR}", token, ca),
        "no token": ask(f"https://{DOOR}", None, ca),
        "no TLS": ask(f"http://{DOOR}", token, None),
        "stranger": ask(f"https://{DOOR}", token, str(folder / "stranger/ca.pem")),
    }


def ask(url: str, token: str | None, ca_file: str | None) -> str:
    client = HttpClient(url, token, ca_file=ca_file, num_retries=0)
    try:
        client.components()
        (score,) = client.score([Sample(id="0/0/0", prompt="a", completion="b", reference=None)])
        return f"scores {score.value}"
    except UserError as error:
        return error.problem
    finally:
        client.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
