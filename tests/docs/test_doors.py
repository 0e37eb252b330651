"""Every port that code of ours opens is one that SECURITY.md knows, and that has a test of who may enter."""

import pytest

from tests.docs.test_untrusted import FOLDERS, ROOT, calls

LISTENING = ("uvicorn", "http.server", "socketserver", "wsgiref.simple_server", "prometheus_client")
NAMES = ("run", "Server", "HTTPServer", "ThreadingHTTPServer", "TCPServer", "make_server")
OPENS = {f"{module}.{name}" for module in LISTENING for name in NAMES} | {
    *("asyncio.start_server", "grpc.server", "grpc.aio.server", "socket.create_server", "flask.Flask.run"),
    *("prometheus_client.start_http_server", "multiprocessing.connection.Listener"),
    *("ray.serve.start", "ray.serve.run", "torch.distributed.TCPStore"),
}
KNOWN = {
    ("learner/rendezvous.py", "torch.distributed.TCPStore"): "tests/learner/test_rendezvous.py",
    ("cluster/metrics.py", "prometheus_client.start_http_server"): "tests/cluster/test_metrics_door.py",
    ("reward_service/serving/instance.py", "ray.serve.start"): "tests/reward_service/test_http.py",
}
"""Who opens a port, and where it is tested who may enter. Applications of Serve stand behind its proxy."""


def opened(source: str) -> set[str]:
    return {name for name, *_ in calls(source) if name in OPENS}


def test_no_port_is_opened_that_is_not_known():
    """Mutation: remove an entry of KNOWN, or start a server anywhere."""
    packages = [folder for folder in FOLDERS if folder not in ("benchmarks", "docs", "recipes", "k8s")]
    paths = sorted(path for folder in packages for path in (ROOT / folder).rglob("*.py"))
    found = {(str(p.relative_to(ROOT)), name) for p in paths for name in opened(p.read_text())}
    assert found == KNOWN.keys()
    assert all((ROOT / test).exists() for test in KNOWN.values())


@pytest.mark.parametrize(
    "source",
    [
        "import uvicorn\nuvicorn.run(app)",
        "from http.server import HTTPServer as S\nS(a, b)",
        "from ray import serve\nserve.start()",
    ],
)
def test_the_search_finds_servers(source):
    assert opened(source)
