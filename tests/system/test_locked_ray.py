"""A run on Ray with all locks: TLS between its processes, a token, HTTPS at the reward door, masked texts."""

import ipaddress
import json
import secrets
import subprocess
import sys

import pytest

from rollout.trajectories import read_parquet
from tests.fakes_tls import make_certificates
from tests.system.drive_head import short_folder
from tests.system.fakes_parts import by_text
from tests.system.fakes_privacy import ADDRESS, mail_recipe, texts
from tests.system.fakes_runs import HERE, ROOT, assert_same_run, run_cli, write_recipe
from tests.system.test_job_submit import ISOLATED, why_not_isolated

pytest.importorskip("ray")

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

OTHER = "10.1.2.3"
"""An address that others would reach, if there were others, and that Ray finds if it looks for one."""


def recipe_for(model, folder, **changes):
    """Masked, with an engine that stops at the gates of the folder; multiplied by torch in any process."""
    recipe = mail_recipe(model, folder, ["email"])
    engine = {"name": f"{HERE}:GatedEngine", "folder": str(folder / "gates"), "is_native": False}
    (folder / "gates").mkdir()
    recipe["rollout"] = {**recipe["rollout"], "engine": engine}
    recipe["reward"] = {**recipe["reward"], "http": changes.pop("http", {})}
    return write_recipe(folder / "mail.yaml", {**recipe, **changes})


@pytest.fixture(scope="module")
def inline(model, tmp_path_factory):
    """The same run in one process; no gate is closed."""
    folder = tmp_path_factory.mktemp("inline")
    assert run_cli("train", recipe_for(model, folder), "--run-dir", folder / "run") == 0
    return folder / "run"


@pytest.fixture(scope="module")
def temp_dir():
    """Where Ray has its sockets and leaves its logs."""
    with short_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def folder(model, temp_dir, tmp_path_factory):
    """Where drive_locked.py left the run, and what it saw."""
    reason = why_not_isolated()
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("locked")
    own = make_certificates(folder / "tls")
    make_certificates(folder / "stranger")
    recipe = recipe_for(
        model,
        folder,
        cluster={"mode": "ray", "start_deadline_s": 900.0},
        http={"enabled": True, "certificate": str(own.certificate), "private_key_file": str(own.key)},
    )
    (folder / "gates/hold_1").touch()
    environment = {
        "PATH": f"{ROOT}:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(folder),
        "RAY_TMPDIR": str(temp_dir),
        "RAY_USE_TLS": "1",
        "RAY_TLS_SERVER_CERT": str(own.certificate),
        "RAY_TLS_SERVER_KEY": str(own.key),
        "RAY_TLS_CA_CERT": str(own.ca),
        "ANTIPHON_REWARD_TOKEN": secrets.token_hex(32),
        "OMP_NUM_THREADS": "1",
    }
    drive = [sys.executable, str(ROOT / "tests/system/drive_locked.py"), str(recipe), str(folder)]
    network = (
        "ip link set lo up && ip address add 10.1.2.3/32 dev lo && ip route add default dev lo src 10.1.2.3"
    )
    script = f"{network} && {' '.join(drive)}; exit $?"
    ended = subprocess.run(
        ["timeout", "--signal=KILL", "560", *ISOLATED, "sh", "-c", script],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder


@pytest.fixture(scope="module")
def facts(folder):
    return json.loads((folder / "facts.json").read_text())


def test_what_a_run_starts_by_itself_listens_at_this_machine_alone(facts):
    """But for replicas of Serve, which know no other way: they ask for certificate and token.

    Mutation: let Ray find an address of the machine.
    """
    elsewhere = {
        port: process
        for address, port, process in facts["listening"]
        if address == "*" or not ipaddress.ip_address(address).is_loopback
    }
    assert all("ray::ServeRepl" in process for process in elsewhere.values()), elsewhere
    # The gateway and the replica for quick components.
    assert len(elsewhere) == 2
    assert [facts["kinds"][str(port)] for port in elsewhere] == ["mutual"] * 2
    assert facts["without token"] == {str(port): "UNAUTHENTICATED" for port in elsewhere}


def test_with_tls_the_processes_of_ray_answer_to_members_of_the_cluster_alone(facts):
    """Each shows a certificate of the cluster's authority and demands one: the head's store, the scheduler,
    the object store, the agent, and the processes of driver, learner, actor and rewards.

    Mutation: start without RAY_USE_TLS.
    """
    kinds = facts["kinds"]
    doors = ("GcsPort", "NodeManagerPort", "ObjectManagerPort", "MetricsAgentPort")
    assert [kinds[str(facts["ray"][name])] for name in doors] == ["mutual"] * 4
    assert list(kinds.values()).count("mutual") >= 4 + 4
    # Ray has no TLS for its numbers.
    assert kinds[str(facts["ray"]["MetricsExportPort"])] == "plain"


def test_the_door_of_the_rewards_speaks_https_out_of_the_proxy_of_serve(facts):
    """Mutations: give Serve no certificate; give it no token."""
    assert facts["kinds"]["8000"] == "https"
    said = facts["door"]
    assert said["known"] == f"scores {by_text('b')}"
    assert "refuses the token" in said["no token"]
    assert "no reward service answers" in said["no TLS"]
    assert "CERTIFICATE_VERIFY_FAILED" in said["stranger"]


def test_a_run_with_all_locks_is_the_run_in_one_process(facts, folder, inline):
    assert facts["exit_code"] == 0
    assert_same_run(folder / "run", inline)


def test_neither_the_stores_nor_the_logs_of_ray_hold_an_address(facts, folder, temp_dir):
    """Mutation: an actor without a masker."""
    kept = texts(folder / "run")
    logs = {name: text for name, text in texts(temp_dir).items() if "/logs/" in name}
    assert [name for name, text in {**kept, **logs}.items() if ADDRESS in text] == []
    # There was something to hide, and the logs are where they are looked for.
    assert any(read_parquet(folder / "run/trajectories/masked"))
    assert "cannot judge [email]" in kept["events.jsonl"]
    assert any("gcs_server" in name for name in logs)
    assert any("worker-" in name for name in logs)
