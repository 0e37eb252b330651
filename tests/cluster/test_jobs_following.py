"""The log of a job is shown once and to its end, over connections that break; the end is told as it was."""

import pytest

from antiphon.errors import UserError
from cluster.jobs.following import Follower, report
from cluster.jobs.last_word import LastWord
from tests.cluster.fakes_jobs import FakeCluster, Job

WORD = LastWord(
    exit_code=1, status="failed", attempt=2, version=7, checkpoint="step_000005", first_cause="X: y"
)


class Following:
    """A follower of one job, what it showed, and a clock that moves when it sleeps."""

    def __init__(self, statuses, pieces=(), **job):
        self.cluster = FakeCluster(jobs={"quick": Job("quick", {}, statuses=list(statuses), **job)})
        self.cluster.pieces = [list(connection) for connection in pieces]
        self.shown = []
        self.now_s = 0.0
        self.follower = Follower(
            self.cluster, "quick", self.shown.append, clock=lambda: self.now_s, sleep=self.sleep
        )

    def sleep(self, seconds):
        self.now_s += seconds


def test_lines_that_arrive_in_pieces_are_shown_whole_and_once():
    """Mutation: a connection that comes back shows the log again from its beginning."""
    text = "one\ntwo\nthree\n"
    following = Following(
        ["RUNNING", "RUNNING", "RUNNING", "SUCCEEDED"],
        pieces=[["one\nt", ConnectionError("gone")], ["one\ntwo\nth"]],
        log=text + "four",
        exit_code=0,
    )
    ended = following.follower.follow(10.0)
    assert following.shown == ["one", "two", "three", "four"]
    assert (ended.status, ended.exit_code) == ("SUCCEEDED", 0)


def test_the_last_word_is_read_and_not_shown():
    following = Following(["RUNNING", "FAILED"], log=f"working\n{WORD.line()}\n", exit_code=1)
    ended = following.follower.follow(10.0)
    assert following.shown == ["working"]
    assert ended.last_word == WORD
    assert report(ended) == [
        "failed, exit code 1",
        "attempt 2 of the run: failed at version 7",
        "first cause: X: y",
        "newest checkpoint: step_000005",
    ]


def test_a_stopped_job_has_the_exit_code_that_its_driver_told():
    """Ray knows none of a job that was stopped. Mutation: the driver's word is not preferred."""
    word = LastWord(exit_code=130, status="interrupted", attempt=1, version=3, checkpoint="step_000003")
    ended = Following(["STOPPED"], log=word.line()).follower.follow(10.0)
    assert (ended.exit_code, report(ended)[0]) == (130, "stopped, exit code 130")


def test_a_job_that_was_killed_before_it_could_tell_is_a_failure():
    ended = Following(["STOPPED"], log="working\n").follower.follow(10.0)
    assert ended.exit_code == 1
    assert "killed before it could say" in report(ended)[0]


def test_a_job_that_never_ran_is_told_in_ray_s_words():
    ended = Following(["FAILED"], message="runtime_env setup failed\nmore", exit_code=None).follower.follow(
        1.0
    )
    assert report(ended) == ["the job ended; exit code 1", "runtime_env setup failed"]


def test_a_job_that_stays_pending_is_stopped_and_that_is_told():
    """Mutation: `_await_start` waits on."""
    following = Following(["PENDING"], message="no node has 7 of rollout")
    with pytest.raises(UserError, match="did not start within 30 s and was stopped: no node has 7"):
        following.follower.follow(30.0)
    assert following.cluster.stopped == ["quick"]
    assert 30.0 < following.now_s < 33.0


def test_a_cluster_that_answers_again_is_followed_on_and_one_that_does_not_is_given_up():
    following = Following(["SUCCEEDED"], log="done\n", exit_code=0)
    following.cluster.num_away = 5
    assert following.follower.follow(1.0).exit_code == 0
    following = Following(["RUNNING"])
    following.cluster.num_away = 10_000
    with pytest.raises(UserError, match="does not answer any more: nobody answers"):
        following.follower.follow(1.0)
    assert following.now_s < 310.0


def test_a_stop_that_does_not_come_to_an_end_is_told():
    with pytest.raises(UserError, match="still RUNNING after 60 s"):
        Following(["RUNNING"]).follower.await_end(60.0)


@pytest.mark.parametrize(
    "line", ["", "antiphon-job", "antiphon-job {", "antiphon-job []", 'antiphon-job {"a": 1}']
)
def test_lines_that_only_look_like_a_last_word_are_lines(line):
    assert LastWord.read(line) is None


def test_a_last_word_of_a_newer_version_of_ours_is_still_read():
    assert LastWord.read('antiphon-job {"exit_code": 2, "unheard_of": 1}') == LastWord(exit_code=2)
