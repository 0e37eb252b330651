"""The files of a run directory, its number, and what a person or a program reads there after a failure."""

import json

import pytest

from antiphon.errors import UserError
from antiphon.privacy import PrivacyConfig, build_masker
from cluster.postmortem import first_cause, write_postmortem
from cluster.run_dir import RunDir, new_run_dir, write_atomically


def test_runs_of_the_same_name_are_numbered(tmp_path):
    assert new_run_dir("sort", tmp_path).path == tmp_path / "sort"
    (tmp_path / "sort").mkdir()
    assert new_run_dir("sort", tmp_path).path == tmp_path / "sort-2"
    (tmp_path / "sort-2").mkdir()
    assert new_run_dir("sort", tmp_path).path == tmp_path / "sort-3"


def test_a_recipe_is_read_back_as_it_was_written(tmp_path):
    run_dir = RunDir(tmp_path / "run")
    recipe = {"run": {"name": "größer", "seed": 1}, "reward": {"components": [{"name": "exact_match"}]}}
    run_dir.create(recipe)
    assert run_dir.load_recipe() == recipe


def test_a_folder_that_holds_a_run_is_refused_and_left_alone(tmp_path):
    run_dir = RunDir(tmp_path)
    run_dir.create({"run": {"seed": 1}})
    with pytest.raises(UserError, match="already holds a run"):
        run_dir.create({"run": {"seed": 2}})
    assert run_dir.load_recipe() == {"run": {"seed": 1}}


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        RunDir(tmp_path / "file" / "run").create({})


def test_a_folder_without_a_run_is_told(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        RunDir(tmp_path).load_recipe()


def test_a_write_replaces_the_whole_file_and_leaves_nothing_else(tmp_path):
    for text in ("long text", "short"):
        write_atomically(tmp_path / "file", text)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("file", "short")]


def chain():
    try:
        try:
            raise OSError("the disk is full")
        except OSError as error:
            raise ValueError("no group") from error
    except ValueError:
        raise RuntimeError("the run failed")  # noqa: B904  its context is what the test is about


def test_the_first_cause_is_the_earliest_error_of_the_chain():
    with pytest.raises(RuntimeError) as raised:
        chain()
    assert str(first_cause(raised.value)) == "the disk is full"


def test_the_first_cause_may_have_been_raised_in_another_process():
    arrived = RuntimeError("ray::RolloutActor.run() ...")
    arrived.cause = ZeroDivisionError("a bug in the actor")
    assert str(first_cause(arrived)) == "a bug in the actor"


def test_a_circle_of_errors_has_an_end():
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert first_cause(one) is other


def test_a_postmortem_says_nothing_personal(tmp_path):
    """Mutation: without masker.tree the address stands in it four times."""
    run_dir = RunDir(tmp_path)
    run_dir.append_event("dropped", message="to a@b.org")
    with pytest.raises(ValueError, match="cannot answer") as raised:
        raise ValueError("cannot answer a@b.org")
    masker = build_masker(PrivacyConfig(mask=("email",)))
    write_postmortem(run_dir, raised.value, version=7, masker=masker)
    told = json.loads(run_dir.postmortem.read_text())
    assert told["first_cause"]["message"] == "cannot answer [email]"
    assert told["last_events"][0]["message"] == "to [email]"
    assert "a@b.org" not in run_dir.postmortem.read_text()


def test_a_postmortem_says_what_failed_first_where_and_what_happened_before(tmp_path):
    run_dir = RunDir(tmp_path)
    for number in range(30):
        run_dir.append_event("checkpoint", version=number)
    with pytest.raises(RuntimeError) as raised:
        chain()
    write_postmortem(run_dir, raised.value, version=7)
    record = json.loads(run_dir.postmortem.read_text())
    assert record["first_cause"] == {"type": "OSError", "message": "the disk is full"}
    assert record["error"] == {"type": "RuntimeError", "message": "the run failed"}
    assert "in chain" in "".join(record["traceback"])
    assert record["version"] == 7
    # The newest 20 of 30 events: versions 10 to 29.
    assert [event["version"] for event in record["last_events"]] == list(range(10, 30))
