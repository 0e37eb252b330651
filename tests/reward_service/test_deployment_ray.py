"""The service as it really runs: Ray, Serve, replicas that die and hang, the HTTP door."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from antiphon.errors import UserError
from reward_service.http import HttpClient
from reward_service.local import LocalClient
from reward_service.types import Sample, Score, Status
from tests.reward_service.fakes_rewards import HERE, recipe, sample

ray = pytest.importorskip("ray")
deployment = pytest.importorskip("reward_service.serving.deployment")
handle = pytest.importorskip("reward_service.serving.handle")
session = pytest.importorskip("cluster.ray_session")

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
def cluster(ray_environment: pytest.MonkeyPatch) -> Iterator[None]:
    """A private Ray cluster of two CPUs, whose workers know the token."""
    ray_environment.setenv("REWARD_TEST_TOKEN", TOKEN)
    session.start(None, num_cpus=2, include_dashboard=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def client(cluster: None) -> Iterator["handle.HandleClient"]:
    yield handle.HandleClient(deployment.deploy(CONFIG, "run-1"), CONFIG)
    deployment.shutdown("run-1")


def numbered(*ids: int, nap_s: float = 0.0) -> list[Sample]:
    return [sample(id=str(i), reference="x", metadata={"nap_s": nap_s}) for i in ids]


def wait_until_scoring(client: "handle.HandleClient") -> None:
    """Replicas that were lost are replaced."""
    deadline = time.monotonic() + 30.0
    while not all(s.is_ok for s in client.score(numbered(*range(8)))):
        assert time.monotonic() < deadline, "no replica took the place of the lost one"


def test_the_service_scores_as_the_rubric_in_this_process_does(client: "handle.HandleClient") -> None:
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


def test_a_client_may_be_sent_to_other_processes(client: "handle.HandleClient") -> None:
    @ray.remote(num_cpus=0)
    def elsewhere(travelled: "handle.HandleClient") -> list[float | None]:
        return [s.value for s in travelled.score([sample(id="4", reference="x")])]

    assert ray.get(elsewhere.remote(client), timeout=60) == [40.0]


def test_scores_keep_to_their_samples_over_replicas_of_different_speed(
    client: "handle.HandleClient",
) -> None:
    """S16: batches of four on two replicas, the first ones slow."""
    batch = numbered(0, 1, 2, 3, nap_s=0.1) + numbered(*range(4, 30))
    assert [s.value for s in client.score(batch)] == [10.0 * i for i in range(30)]


def test_the_door_opens_to_the_token_alone(client: "handle.HandleClient") -> None:
    url = f"http://127.0.0.1:{PORT}"
    assert httpx.post(f"{url}/v1/score", json={"samples": []}).status_code == 401
    assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
    outside = HttpClient(url, TOKEN)
    assert [s.value for s in outside.score(numbered(5, 3, 4))] == [50.0, 30.0, 40.0]
    metrics = httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
    assert 'antiphon_reward_http_samples_total{status="ok"} 3.0' in metrics


def test_a_function_that_ends_its_process_costs_its_own_sample_and_no_neighbour(
    client: "handle.HandleClient",
) -> None:
    """S16: functions run in child processes, one sample at a time."""
    batch = [*numbered(0, 1, 2, 3), sample("exit", id="4", reference="x"), *numbered(5, 6, 7)]
    scores = client.score(batch)
    assert [s.value for s in scores] == [0.0, 10.0, 20.0, 30.0, None, 50.0, 60.0, 70.0]
    assert scores[4].status is Status.ERROR


def test_a_regex_that_never_ends_is_gone_at_the_deadline(client: "handle.HandleClient") -> None:
    # Two batches of four, so that both replicas hang.
    batch = [sample("hang", id=str(i), reference="x") for i in range(8)]
    start = time.monotonic()
    assert {s.status for s in client.score(batch)} == {Status.TIMEOUT}
    # One after another, the four of a replica would take four deadlines.
    assert time.monotonic() - start < 3 * DEADLINE_S
    wait_until_scoring(client)


def test_a_second_run_has_its_own_rubric_and_no_second_door(client: "handle.HandleClient") -> None:
    config = recipe({"name": "length", "max": 1})
    second = handle.HandleClient(deployment.deploy(config, "run-2"), config)
    assert second.score([sample("one")])[0].parts == {"length": 1.0}
    deployment.shutdown("run-2")
    with pytest.raises(UserError, match="only one run of a cluster can open the HTTP door"):
        deployment.deploy(CONFIG, "run-3")
    assert client.score(numbered(1))[0].value == 10.0


def test_a_mistake_in_the_recipe_starts_nothing(cluster: None) -> None:
    with pytest.raises(UserError, match="did you mean 'exact_match'"):
        deployment.deploy(recipe({"name": "exact_mach"}), "run-4")


def test_a_replica_that_cannot_start_says_why(client: "handle.HandleClient") -> None:
    with pytest.raises(UserError, match="there is no weights file"):
        deployment.deploy(recipe({"name": f"{HERE}:Broken"}), "run-5")
    with pytest.raises(UserError, match=r"does not start within 2 s: .*CpuScorer \{'STARTING': 1\}"):
        deployment.deploy(recipe(*COMPONENTS, num_cpus_per_replica=9.0, start_deadline_s=2.0), "run-6")


def test_requests_that_wait_for_a_model_are_scored_together(cluster: None) -> None:
    config = recipe({"name": f"{HERE}:BatchSize", "service": {"cache": None, "batch_wait_s": 0.1}})
    client = handle.HandleClient(deployment.deploy(config, "own"), config)
    client.score([sample("warm", id="0")])
    # Eight threads ask for two samples each: a batch per request would say 2 everywhere.
    with ThreadPoolExecutor(8) as threads:
        asked = [[sample(f"{i} {j}", id=str(j)) for j in range(2)] for i in range(8)]
        answers = list(threads.map(client.score, asked))
    deployment.shutdown("own")
    sizes = [s.value for scores in answers for s in scores if s.value is not None]
    assert len(sizes) == 16
    assert max(sizes) >= 8.0
    assert [[s.id for s in scores] for scores in answers] == [["0", "1"]] * 8


@pytest.mark.parametrize("normalize", ["none", "running"])
def test_replicas_killed_under_load_lose_nothing_and_score_nothing_twice(
    cluster: None, normalize: str
) -> None:
    """S16, with kill -9: every sample has one answer, its own; without a gateway and with one."""
    config = recipe(
        {"name": f"{HERE}:ProcessId", "weight": 0.0, "normalize": normalize},
        {"name": "length", "target": 0, "unit": "characters", "penalty": 0.001},
        num_replicas=2,
        deadline_s=60.0,
        max_batch_size=8,
        retry={"num_retries": 8, "first_backoff_s": 0.5},
    )
    client = handle.HandleClient(deployment.deploy(config, f"chaos-{normalize}"), config)
    seen: set[int] = set()
    answers: list[list[Score]] = []

    def ask(number: int) -> list[Score]:
        return client.score([sample("x" * (number + i), id=f"{number}-{i}") for i in range(16)])

    with ThreadPoolExecutor(6) as threads:
        for round_ in range(4):
            asked = [threads.submit(ask, 100 * round_ + n) for n in range(12)]
            answers += [future.result() for future in asked[:3]]
            pids = {int(s.parts["ProcessId"]) for s in answers[-1] if s.is_ok}
            for pid in pids - seen:
                os.kill(pid, signal.SIGKILL)
            seen |= pids
            answers += [future.result() for future in asked[3:]]
    counts = client.stats()["cpu"]
    deployment.shutdown(f"chaos-{normalize}")
    scores = [s for batch in answers for s in batch]
    assert len(seen) >= 2
    assert len({s.id for s in scores}) == len(scores) == 4 * 12 * 16
    assert [s.message for s in scores if not s.is_ok] == []
    for s in scores:
        number, _, i = s.id.partition("-")
        # 1 less 0.001 for each character.
        assert s.value == pytest.approx(1.0 - 0.001 * (int(number) + int(i)))
    if normalize == "running":
        assert counts["scores/num_ok"] == len(scores)


def test_what_the_service_learned_goes_into_a_checkpoint_and_back(cluster: None) -> None:
    config = recipe(
        {"name": "length", "target": 0, "unit": "characters", "penalty": 0.1, "normalize": "running"}
    )
    first = handle.HandleClient(deployment.deploy(config, "before"), config)
    first.score([sample("x" * n, id=str(n)) for n in range(9)])
    state = first.state_dict()
    deployment.shutdown("before")
    second = handle.HandleClient(deployment.deploy(config, "after"), config)
    second.load_state_dict(json.loads(json.dumps(state)))
    assert second.state_dict() == state
    deployment.shutdown("after")


def test_replicas_are_added_while_requests_queue(cluster: None) -> None:
    service = {"cache": None, "num_replicas": 1, "max_replicas": 2, "max_batch_size": 1, "num_cpus": 0.1}
    config = recipe({"name": f"{HERE}:BatchSize", "nap_s": 0.5, "service": service}, max_batch_size=1)
    client = handle.HandleClient(deployment.deploy(config, "bursts"), config)
    is_over = threading.Event()

    def ask(number: int) -> None:
        while not is_over.is_set():
            client.score([sample(str(number))])

    with ThreadPoolExecutor(12) as threads:
        for number in range(12):
            threads.submit(ask, number)
        deadline = time.monotonic() + 150.0
        while num_running("bursts", "BatchSize") < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
        num_replicas = num_running("bursts", "BatchSize")
        is_over.set()
    deployment.shutdown("bursts")
    assert num_replicas == 2


def num_running(application: str, name: str) -> int:
    """Replicas of the deployment whose name ends so."""
    found = deployment.serve.status().applications[application].deployments
    (states,) = (d.replica_states for n, d in found.items() if n.endswith(name))
    return sum(count for state, count in states.items() if state == "RUNNING")
