"""Who may scrape a run."""

import urllib.error
import urllib.request

import pytest

from antiphon.errors import UserError
from cluster.metrics import MetricsConfig, Prometheus, open_prometheus
from cluster.monitoring.files import write_files
from cluster.run_dir import RunDir

TOKEN = "s3cret"
WRONG = [
    None,
    "",
    "Bearer",
    "Bearer ",
    "Bearer s3cre",
    "Bearer s3crett",
    "Basic s3cret",
    TOKEN,
    "Bearer \xff",
]


@pytest.fixture(scope="module")
def endpoint():
    sink = Prometheus("127.0.0.1", 0, TOKEN)
    sink.write(1, {"loss/policy": 0.5})
    yield sink.url
    sink.close()


@pytest.fixture
def no_token(monkeypatch):
    monkeypatch.delenv("ANTIPHON_METRICS_TOKEN", raising=False)
    monkeypatch.delenv("ANTIPHON_METRICS_TOKEN_FILE", raising=False)


def get(url, authorization=None):
    headers = {} if authorization is None else {"Authorization": authorization}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        return answer.read().decode()


def test_who_shows_the_token_reads_the_numbers(endpoint):
    assert "antiphon_loss_policy 0.5" in get(endpoint, f"Bearer {TOKEN}")
    assert "antiphon_loss_policy 0.5" in get(endpoint, f"bearer {TOKEN}")


@pytest.mark.parametrize("shown", WRONG)
@pytest.mark.parametrize("path", ["/metrics", "/", "/favicon.ico"])
def test_nobody_else_is_let_in_at_any_path(endpoint, shown, path):
    """Mutation: comparing without the scheme lets Basic in."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(endpoint.replace("/metrics", path), shown)
    assert refused.value.code == 401
    assert refused.value.headers["WWW-Authenticate"] == "Bearer"
    assert b"antiphon" not in refused.value.read()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_an_address_that_others_reach_needs_a_token_or_a_word(no_token, host):
    with pytest.raises(UserError, match="ANTIPHON_METRICS_TOKEN is not set"):
        open_prometheus(MetricsConfig(prometheus_host=host))


def test_what_a_firewall_guards_may_be_open(no_token):
    sink = open_prometheus(MetricsConfig(prometheus_host="0.0.0.0", is_open=True))
    assert sink is not None
    assert get(f"http://127.0.0.1:{sink.port}/metrics") is not None
    sink.close()


def test_on_this_machine_no_token_is_needed_but_one_that_is_set_counts(no_token, monkeypatch):
    sink = open_prometheus(MetricsConfig())
    assert sink is not None
    assert get(sink.url) is not None
    sink.close()
    monkeypatch.setenv("ANTIPHON_METRICS_TOKEN", TOKEN)
    sink = open_prometheus(MetricsConfig())
    assert sink is not None
    with pytest.raises(urllib.error.HTTPError):
        get(sink.url)
    sink.close()


def test_the_configuration_of_prometheus_names_the_file_of_the_token(no_token, monkeypatch, tmp_path):
    """It is never copied: whoever reads the run directory must not learn it."""
    run = RunDir(tmp_path / "run")
    folder = write_files([run], "http://127.0.0.1:9090")
    assert "authorization" not in (folder / "prometheus.yml").read_text()
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setenv("ANTIPHON_METRICS_TOKEN_FILE", str(tmp_path / "token"))
    folder = write_files([run], "http://127.0.0.1:9090")
    assert f"credentials_file: {tmp_path / 'token'}" in (folder / "prometheus.yml").read_text()
    assert not any(TOKEN in path.read_text() for path in folder.rglob("*") if path.is_file())
