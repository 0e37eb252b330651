"""The door behind a certificate: who trusts its authority is answered, nobody else sends anything."""

import pickle
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from antiphon.errors import UserError
from antiphon.settings import parse
from reward_service.config import HttpConfig
from reward_service.http import HttpClient
from reward_service.http.door import door
from reward_service.http.gatekeeper import digest
from reward_service.serving.instance import check_certificate
from reward_service.types import Status
from tests.fakes_tls import Certificates, make_certificates
from tests.reward_service.fakes_rewards import sample
from tests.reward_service.test_http import CONFIG, TOKEN, Breakable


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def address(files: Certificates) -> Iterator[str]:
    """host:port of a door that speaks HTTPS, as the proxy of Serve does with the same two files."""
    app = door(Breakable(), CONFIG, digest(TOKEN))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            app, log_level="critical", ssl_certfile=files.certificate, ssl_keyfile=files.key
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def test_who_knows_the_authority_gets_scores_also_after_a_journey(address: str, files: Certificates) -> None:
    client = HttpClient(f"https://{address}", TOKEN, ca_file=str(files.ca), num_retries=0)
    travelled = pickle.loads(pickle.dumps(client))
    for one in (client, travelled):
        (score,) = one.score([sample("0.5", id="a")])
        assert (score.status, score.value) == (Status.OK, 1.0)
        one.close()


def test_a_stranger_with_the_right_address_is_not_believed(address: str, tmp_path: Path) -> None:
    """Mutation: verify=False gets scores, and would hand the token to anybody."""
    other = make_certificates(tmp_path)
    for ca_file in (None, str(other.ca)):
        client = HttpClient(f"https://{address}", TOKEN, ca_file=ca_file, num_retries=0)
        with pytest.raises(UserError, match="CERTIFICATE_VERIFY_FAILED"):
            client.components()
        client.close()


def test_the_authority_may_come_from_the_environment(
    address: str, files: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(files.ca))
    client = HttpClient(f"https://{address}", TOKEN, num_retries=0)
    assert client.components()
    client.close()


def test_without_tls_nobody_is_answered(address: str) -> None:
    client = HttpClient(f"http://{address}", TOKEN, num_retries=0)
    with pytest.raises(UserError, match="no reward service answers"):
        client.components()
    client.close()


def test_an_authority_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        HttpClient("https://127.0.0.1:1", ca_file=str(tmp_path / "none.pem"))


def test_a_certificate_without_its_key_is_refused() -> None:
    with pytest.raises(UserError, match="belong together"):
        parse(HttpConfig, {"certificate": "a.pem"}, "reward.http")


def test_files_that_do_not_fit_are_refused_before_the_proxy_starts(
    files: Certificates, tmp_path: Path
) -> None:
    other = make_certificates(tmp_path)
    fitting = HttpConfig(certificate=str(files.certificate), private_key_file=str(files.key))
    check_certificate(fitting)
    assert fitting.url == "https://127.0.0.1:8000"
    for key in (other.key, tmp_path / "none.key"):
        with pytest.raises(UserError, match="cannot speak HTTPS"):
            check_certificate(HttpConfig(certificate=str(files.certificate), private_key_file=str(key)))
