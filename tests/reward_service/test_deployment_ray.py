"""The service as it really runs: Ray, Serve, replicas that die and hang, the HTTP door."""

import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from antiphon.errors import UserError
from reward_service.http import HttpClient
from reward_service.local import LocalClient
from reward_service.types import Sample, Status
from tests.reward_service.fakes_rewards import HERE, recipe, sample

ray = pytest.importorskip("ray")
deployment = pytest.importorskip("reward_service.deployment")

pytestmark = pytest.mark.ray

TOKEN = "s3cret"
DEADLINE_S = 3.0
COMPONENTS = (
    {"name": "exact_match"},
    {"name": f"{HERE}:id_after_a_nap", "weight": 10.0, "label": "id"},
    {"name": f"{HERE}:dangerous", "weight": 0.0},
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


PORT = free_port()
CONFIG = recipe(
    *COMPONENTS,
    deadline_s=DEADLINE_S,
    num_replicas=2,
    max_batch_size=4,
    retry={"num_retries": 2},
    http={"enabled": True, "port": PORT, "token_env": "REWARD_TEST_TOKEN"},
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A private Ray cluster of two CPUs."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        environment.setenv("RAY_AUTH_MODE", "disabled")
        environment.setenv("REWARD_TEST_TOKEN", TOKEN)
        ray.init(num_cpus=2, include_dashboard=False)
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def client(cluster: None) -> Iterator["deployment.HandleClient"]:
    handle = deployment.deploy(CONFIG, "run-1")
    yield deployment.HandleClient(handle, CONFIG)
    deployment.shutdown("run-1")


def numbered(*ids: int, nap_s: float = 0.0) -> list[Sample]:
    return [sample(id=str(i), reference="x", metadata={"nap_s": nap_s}) for i in ids]


def wait_until_scoring(client: "deployment.HandleClient") -> None:
    """Replicas that were lost are replaced."""
    deadline = time.monotonic() + 30.0
    while not all(s.is_ok for s in client.score(numbered(*range(8)))):
        assert time.monotonic() < deadline, "no replica took the place of the lost one"


def test_the_service_scores_as_the_rubric_in_this_process_does(client: "deployment.HandleClient") -> None:
    batch = [
        sample("x", id="7", reference="x"),
        sample("y", id="8", reference="x"),
        sample("y", id="9"),
    ]
    here = LocalClient(CONFIG).score(batch)
    there = client.score(batch)
    assert [(s.id, s.status, s.value, s.parts, s.message) for s in there] == [
        (s.id, s.status, s.value, s.parts, s.message) for s in here
    ]
    # 1 * 1 + 10 * 7, 1 * 0 + 10 * 8, no reference.
    assert [s.value for s in there] == [71.0, 80.0, None]


def test_a_client_may_be_sent_to_other_processes(client: "deployment.HandleClient") -> None:
    @ray.remote(num_cpus=0)
    def elsewhere(travelled: "deployment.HandleClient") -> list[float | None]:
        return [s.value for s in travelled.score([sample(id="4", reference="x")])]

    assert ray.get(elsewhere.remote(client), timeout=60) == [40.0]


def test_scores_keep_to_their_samples_over_replicas_of_different_speed(
    client: "deployment.HandleClient",
) -> None:
    """S16: batches of four on two replicas, the first ones slow."""
    batch = numbered(0, 1, 2, 3, nap_s=0.1) + numbered(*range(4, 30))
    assert [s.value for s in client.score(batch)] == [10.0 * i for i in range(30)]


def test_the_door_opens_to_the_token_alone(client: "deployment.HandleClient") -> None:
    url = f"http://127.0.0.1:{PORT}"
    assert httpx.post(f"{url}/v1/score", json={"samples": []}).status_code == 401
    assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
    outside = HttpClient(url, TOKEN)
    assert [s.value for s in outside.score(numbered(5, 3, 4))] == [50.0, 30.0, 40.0]
    metrics = httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
    assert 'antiphon_reward_http_samples_total{status="ok"} 3.0' in metrics


def test_a_function_that_ends_its_process_costs_its_own_sample_and_no_neighbour(
    client: "deployment.HandleClient",
) -> None:
    """S16: functions run in child processes, one sample at a time."""
    batch = [*numbered(0, 1, 2, 3), sample("exit", id="4", reference="x"), *numbered(5, 6, 7)]
    scores = client.score(batch)
    assert [s.value for s in scores] == [0.0, 10.0, 20.0, 30.0, None, 50.0, 60.0, 70.0]
    assert scores[4].status is Status.ERROR


def test_a_regex_that_never_ends_is_gone_at_the_deadline(client: "deployment.HandleClient") -> None:
    # Two batches of four, so that both replicas hang.
    batch = [sample("hang", id=str(i), reference="x") for i in range(8)]
    start = time.monotonic()
    assert {s.status for s in client.score(batch)} == {Status.TIMEOUT}
    assert time.monotonic() - start < DEADLINE_S + 1.0
    wait_until_scoring(client)


def test_a_second_run_has_its_own_rubric_and_no_second_door(client: "deployment.HandleClient") -> None:
    config = recipe({"name": "length", "max": 1})
    second = deployment.HandleClient(deployment.deploy(config, "run-2"), config)
    assert second.score([sample("one")])[0].parts == {"length": 1.0}
    deployment.shutdown("run-2")
    with pytest.raises(UserError, match="only one run of a cluster can open the HTTP door"):
        deployment.deploy(CONFIG, "run-3")
    assert client.score(numbered(1))[0].value == 10.0


def test_a_mistake_in_the_recipe_starts_nothing(cluster: None) -> None:
    with pytest.raises(UserError, match="did you mean 'exact_match'"):
        deployment.deploy(recipe({"name": "exact_mach"}), "run-4")


def test_a_replica_that_cannot_start_says_why(client: "deployment.HandleClient") -> None:
    with pytest.raises(UserError, match="there is no weights file"):
        deployment.deploy(recipe({"name": f"{HERE}:Broken"}), "run-5")
    with pytest.raises(UserError, match=r"does not start within 2 s: .*CpuScorer \{'STARTING': 1\}"):
        deployment.deploy(recipe(*COMPONENTS, num_cpus_per_replica=9.0, start_deadline_s=2.0), "run-6")
