"""What a submitted job says at its end, from the files of its run directory."""

import json
import sys

import pytest

from cluster.jobs.driver import main
from cluster.jobs.last_word import LastWord, compose, texts
from cluster.run_dir import RunDir

SUMMARY = {"status": "interrupted", "attempt": 3, "version": 4}
POSTMORTEM = {"first_cause": {"type": "ValueError", "message": "x is 0"}}


@pytest.fixture
def run_dir(tmp_path):
    for version in (2, 10):
        (tmp_path / "checkpoints" / f"step_{version:06d}").mkdir(parents=True)
    return RunDir(tmp_path)


def write(path, facts):
    path.write_text(json.dumps(facts))


def test_what_an_attempt_wrote_is_told(run_dir):
    before = texts(run_dir)
    write(run_dir.summary, SUMMARY)
    write(run_dir.postmortem, POSTMORTEM)
    assert compose(run_dir, 1, before) == LastWord(
        exit_code=1,
        status="interrupted",
        attempt=3,
        version=4,
        checkpoint="step_000010",
        first_cause="ValueError: x is 0",
    )


def test_what_an_earlier_attempt_wrote_is_not_told_as_this_one_s(run_dir):
    """Mutation: the comparison with what stood there before is left out."""
    write(run_dir.summary, SUMMARY)
    write(run_dir.postmortem, POSTMORTEM)
    assert compose(run_dir, 2, texts(run_dir)) == LastWord(exit_code=2, checkpoint="step_000010")


def test_a_run_that_was_done_before_is_told_as_done(run_dir):
    write(run_dir.summary, {**SUMMARY, "status": "done"})
    assert compose(run_dir, 0, texts(run_dir)).status == "done"


def test_the_driver_exits_with_the_code_of_the_command_line_and_its_last_line_says_so(
    tmp_path, monkeypatch, capsys
):
    """Mutation: the driver exits with 0, or prints before the command line is done."""
    argv = ["driver", "train", str(tmp_path / "absent.yaml"), "--run-dir", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert "cannot be read" in err
    assert LastWord.read(out.splitlines()[-1]) == LastWord(exit_code=2)
