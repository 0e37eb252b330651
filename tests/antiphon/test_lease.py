"""Which attempt may write: claims, takeovers, the lock, and what is told of attempts."""

import fcntl
import json
import os
import pickle
from pathlib import Path

import pytest

from antiphon.lease import JOB_VARIABLE, LOCK, Lease, Superseded


@pytest.fixture
def first(tmp_path):
    lease = Lease.next_of(tmp_path)
    lease.claim()
    return lease


def write(lease, path, text="x"):
    with lease.writing():
        path.write_text(text)


def test_attempts_are_numbered_from_1_and_none_is_begun_by_asking(tmp_path):
    assert [Lease.next_of(tmp_path).number for _ in range(2)] == [1, 1]
    assert list(tmp_path.iterdir()) == []
    Lease.next_of(tmp_path).claim()
    assert Lease.next_of(tmp_path).number == 2


def test_an_attempt_writes_until_a_newer_one_begins(first, tmp_path):
    """Mutation: `check` compares with >=, or `writing` does not check."""
    write(first, tmp_path / "a")
    second = Lease.next_of(tmp_path)
    write(first, tmp_path / "b")
    second.claim()
    with pytest.raises(Superseded, match=r"attempt 2 .* has taken the run over: attempt 1 writes nothing"):
        write(first, tmp_path / "c")
    assert not (tmp_path / "c").exists()
    assert not first.is_current()
    write(second, tmp_path / "d")


def test_an_attempt_that_was_refused_gives_back_what_it_took_over_and_no_newer_one(first, tmp_path):
    """Mutation: give back without a look at who came after."""
    second = Lease.next_of(tmp_path)
    second.claim()
    second.give_back()
    write(first, tmp_path / "a")
    second = Lease.next_of(tmp_path)
    second.claim()
    third = Lease.next_of(tmp_path)
    third.claim()
    second.give_back()
    assert sorted(path.name for path in third.folder.glob("*.json")) == [f"00000{n}.json" for n in (1, 2, 3)]
    with pytest.raises(Superseded):
        write(first, tmp_path / "b")


def test_of_two_that_claim_the_same_number_one_gets_it(first, tmp_path):
    """Mutation: the file is opened with "w"."""
    here, there = Lease.next_of(tmp_path), Lease.next_of(tmp_path)
    here.claim()
    with pytest.raises(Superseded):
        there.claim()
    assert here.is_current()


def test_one_who_comes_late_with_an_old_number_is_refused(first, tmp_path):
    late = Lease.next_of(tmp_path)
    for _ in range(2):
        Lease.next_of(tmp_path).claim()
    with pytest.raises(Superseded, match="attempt 3"):
        late.claim()


def test_a_takeover_waits_for_a_write_that_is_under_way(first, tmp_path):
    """Mutation: `claim` does not lock."""
    second = Lease(folder=first.folder, number=2, deadline_s=0.0)
    with first.writing(), pytest.raises(TimeoutError, match="holds"):
        second.claim()
    second.claim()


def test_a_write_waits_for_a_takeover_that_is_under_way(first):
    """Mutation: `writing` does not lock."""
    impatient = Lease(folder=first.folder, number=1, deadline_s=0.0)
    with (first.folder / LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError), impatient.writing():
            pass


def test_a_file_system_without_locks_keeps_the_look_before_each_write(first, tmp_path, monkeypatch):
    def refuse(file, operation):
        raise OSError(38, os.strerror(38))

    monkeypatch.setattr(fcntl, "flock", refuse)
    write(first, tmp_path / "a")
    Lease.next_of(tmp_path).claim()
    with pytest.raises(Superseded):
        write(first, tmp_path / "b")


def test_other_files_in_the_folder_are_no_attempts(first):
    (first.folder / "notes.json").write_text("{}")
    (first.folder / "000009.json.tmp").write_text("{}")
    assert first.is_current()


def test_an_attempt_tells_where_it_runs_and_how_it_ended(tmp_path, monkeypatch):
    monkeypatch.setenv(JOB_VARIABLE, "quick-1")
    lease = Lease.next_of(tmp_path)
    lease.claim()
    assert lease.tell(1) == f"attempt 1 (host {lease.facts(1)['host']}, process {os.getpid()}, job quick-1)"
    assert "ended" not in lease.facts(1)
    lease.end("done")
    assert lease.facts(1)["status"] == "done"
    assert lease.facts(1)["ended"] >= lease.facts(1)["began"]


def test_an_attempt_that_was_cut_off_while_it_told_of_itself_counts_all_the_same(first, tmp_path):
    (first.folder / "000002.json").write_text('{"host": ')
    with pytest.raises(Superseded, match="attempt 2 has taken"):
        first.check()
    assert Lease.next_of(tmp_path).number == 3
    (first.folder / "000002.json").write_text(json.dumps([1]))
    assert first.facts(2) == {}


def test_a_lease_travels_to_other_processes(first, tmp_path, monkeypatch):
    """The learner has a copy, and is refused with the driver. Mutation: a relative path leads elsewhere."""
    monkeypatch.chdir(tmp_path.parent)
    copy = pickle.loads(pickle.dumps(Lease.next_of(Path(tmp_path.name))))
    monkeypatch.chdir("/")
    copy.claim()
    copy.check()
    copy = pickle.loads(pickle.dumps(first))
    with pytest.raises(Superseded, match="attempt 2"):
        copy.check()
