"""What a name stands for: when a job is submitted, when it is found, and when it is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from antiphon.errors import UserError
from cluster.jobs.submitting import stop, submit
from cluster.jobs.upload import Upload
from cluster.jobs.wanted import Known, Wanted, check_name, decide, submission_id
from tests.cluster.fakes_jobs import FakeCluster, Job

UPLOAD = Upload(folder=Path("/work"), excludes=("runs",), sizes_bytes={"small.yaml": 10})
WANTED = Wanted(
    name="quick",
    run_dir="/shared/quick",
    recipe={"run": {"seed": 1}},
    entrypoint="python -m cluster.jobs.driver train small.yaml",
    stop_wait_s=60,
    environment={"HF_HOME": "/shared/hf"},
)


def ask(cluster, wanted=WANTED):
    """The answer, and whether the room was looked at."""
    looks = []
    job = submit(cluster, wanted, UPLOAD, lambda: looks.append(1), lambda line: None)
    return job, bool(looks)


def known(status="RUNNING", number=1, **changes):
    facts = {"name": "quick", "run_dir": "/shared/quick", "recipe": {"run": {"seed": 1}}, "stop_wait_s": 60}
    return Known(status=status, number=number, **{**facts, **changes})


def test_a_new_name_is_submitted_with_all_that_a_later_look_needs():
    cluster = FakeCluster()
    job, has_looked = ask(cluster)
    assert (job.submission_id, job.number, job.is_new, has_looked) == ("quick", 1, True, True)
    sent = cluster.jobs["quick"]
    assert Known.of("PENDING", sent.metadata) == known("PENDING")
    environment = sent.request["runtime_env"]
    assert (environment["working_dir"], environment["excludes"]) == ("/work", ["runs"])
    assert environment["env_vars"] == {
        "HF_HOME": "/shared/hf",
        "ANTIPHON_JOB": "quick",
        "RAY_JOB_STOP_WAIT_TIME_S": "60",
    }


def test_who_cannot_be_held_is_not_submitted():
    def refuse():
        raise UserError("too large", remedy="less")

    cluster = FakeCluster()
    with pytest.raises(UserError, match="too large"):
        submit(cluster, WANTED, UPLOAD, refuse, lambda line: None)
    assert cluster.jobs == {}


@pytest.mark.parametrize(
    ("status", "expected"),
    [("PENDING", "itself"), ("RUNNING", "itself"), ("SUCCEEDED", "itself"), ("STOPPED", 4), ("FAILED", 4)],
)
def test_what_goes_on_or_is_done_is_found_and_what_ended_goes_on_as_the_next_attempt(status, expected):
    """Mutation: any one status on the other side."""
    last = known(status, number=3)
    assert decide(last, WANTED) == (last if expected == "itself" else expected)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"recipe": {"run": {"seed": 2}}}, r"run.seed 1 \(is 2\)"),
        ({"run_dir": "/shared/other"}, r"run directory /shared/quick \(is /shared/other\)"),
    ],
)
@pytest.mark.parametrize("status", ["RUNNING", "SUCCEEDED", "FAILED"])
def test_another_run_under_the_name_is_refused_however_it_ended(changes, words, status):
    with pytest.raises(UserError, match=words):
        decide(known(status, **changes), WANTED)


def test_the_newest_attempt_counts_and_jobs_of_others_do_not():
    cluster = FakeCluster()
    ask(cluster)
    cluster.jobs["quick"].statuses = ["FAILED"]
    ask(cluster)
    cluster.jobs["foreign"] = Job("foreign", {"owner": "somebody"})
    other = replace(WANTED, name="other", run_dir="/shared/other")
    ask(cluster, other)
    job, has_looked = ask(cluster)
    assert (job.submission_id, job.is_new, has_looked) == ("quick.2", False, False)
    assert set(cluster.jobs) == {"quick", "quick.2", "foreign", "other"}


def test_of_two_who_submit_the_same_at_once_both_get_one_job():
    """Mutation: the refusal of a taken id is not looked into."""
    cluster = FakeCluster()
    ask(cluster)
    cluster.hidden = {"quick"}
    job, _ = ask(cluster)
    assert (job.submission_id, job.is_new) == ("quick", False)
    assert len(cluster.jobs) == 1


def test_an_id_that_something_else_has_taken_is_told():
    cluster = FakeCluster(jobs={"quick": Job("quick", {})})
    with pytest.raises(UserError, match="another job with the submission id 'quick'"):
        ask(cluster)


def test_stopping_takes_the_newest_attempt_that_still_runs():
    cluster = FakeCluster()
    with pytest.raises(UserError, match="knows no job 'quick'"):
        stop(cluster, "quick")
    ask(cluster)
    assert stop(cluster, "quick").stop_wait_s == 60
    assert cluster.stopped == ["quick"]
    with pytest.raises(UserError, match="has ended: STOPPED"):
        stop(cluster, "quick")


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/b", "a.2", "x" * 101])
def test_a_name_that_could_be_another_name_s_attempt_is_refused(name):
    """`a.2` is the second attempt of `a`. Mutation: NUMBERED is not asked."""
    assert submission_id("a", 2) == "a.2"
    with pytest.raises(UserError, match="cannot name a job"):
        check_name(name)
    assert check_name("a.2b") == "a.2b"
