import json

import pytest

from antiphon.errors import UserError
from antiphon.lease import Lease, Superseded
from cluster.checkpoints import Checkpoints, check_registered, find_fault


def name_in_manifest(path, name):
    """As a stranger would write it: with the right size and checksum of a file that is not his."""
    (path.parents[1] / "outside.txt").write_text("state")
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"][name] = manifest["files"]["state.txt"]
    (path / "manifest.json").write_text(json.dumps(manifest))


def link(path, target):
    target.write_text("state")
    path.unlink()
    path.symlink_to(target)


def save(checkpoints, version, text="state"):
    return checkpoints.save(version, lambda folder: (folder / "state.txt").write_text(text), {"run_id": "r"})


def test_the_newest_whole_checkpoint_is_taken(tmp_path):
    checkpoints = Checkpoints(tmp_path, num_kept=3)
    save(checkpoints, 1)
    newest = save(checkpoints, 2)
    assert checkpoints.newest() == (newest, [])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda p: (p / "state.txt").write_text("other"), "checksum"),
        (lambda p: (p / "state.txt").write_text("stat"), "cut short"),
        (lambda p: (p / "state.txt").unlink(), "missing"),
        (lambda p: (p / "manifest.json").unlink(), "manifest"),
        (lambda p: (p / "manifest.json").write_text("{"), "manifest"),
        (lambda p: (p / "manifest.json").write_text("[]"), "manifest"),
        (lambda p: (p / "manifest.json").write_text('{"files": {"state.txt": 5}}'), "manifest"),
        (lambda p: (p / "manifest.json").write_text("[" * 100_000), "manifest"),
        (lambda p: name_in_manifest(p, "../../../outside.txt"), "outside of the checkpoint"),
        (lambda p: name_in_manifest(p, str(p.parents[1] / "outside.txt")), "outside of the checkpoint"),
        (lambda p: link(p / "state.txt", p.parents[1] / "outside.txt"), "outside of the checkpoint"),
    ],
)
def test_a_damaged_checkpoint_is_skipped_and_the_reason_is_told(tmp_path, damage, reason):
    """Mutation: without the look at where a file lies, the last three are taken as whole."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", num_kept=3)
    whole = save(checkpoints, 1)
    broken = save(checkpoints, 2)
    damage(broken)
    path, skipped = checkpoints.newest()
    assert path == whole
    assert [s.path for s in skipped] == [broken]
    assert reason in skipped[0].reason


def test_with_no_usable_checkpoint_the_error_says_what_was_found(tmp_path):
    checkpoints = Checkpoints(tmp_path, num_kept=1)
    (save(checkpoints, 4) / "state.txt").unlink()
    with pytest.raises(UserError, match=r"step_000004: state.txt is missing"):
        checkpoints.newest()


def test_a_writer_that_dies_half_way_leaves_the_older_checkpoint_as_it_was(tmp_path):
    checkpoints = Checkpoints(tmp_path, num_kept=3)
    whole = save(checkpoints, 1)

    def die(folder):
        (folder / "state.txt").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        checkpoints.save(2, die, {"run_id": "r"})
    assert checkpoints.newest() == (whole, [])


def test_only_so_many_checkpoints_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, num_kept=2)
    paths = [save(checkpoints, version) for version in (1, 2, 3)]
    assert sorted(tmp_path.glob("step_*")) == paths[1:]
    assert find_fault(paths[2]) is None


class WithState:
    def state_dict(self):
        return {}

    def load_state_dict(self, state): ...


class Owner:
    def __init__(self):
        self.cursor = WithState()
        self.forgotten = WithState()
        self.name = "plain values have no state"


def test_a_stateful_part_without_a_place_in_the_checkpoint_is_refused():
    owner = Owner()
    with pytest.raises(AssertionError, match="forgotten"):
        check_registered(owner, {"cursor": owner.cursor})
    check_registered(owner, {"cursor": owner.cursor, "forgotten": owner.forgotten})


def test_what_a_killed_writer_left_is_cleared_away_by_the_next_checkpoint(tmp_path):
    (tmp_path / ".step_000002.999.tmp").mkdir()
    newest = save(Checkpoints(tmp_path, num_kept=3), 3)
    assert list(tmp_path.iterdir()) == [newest]


def test_whoever_may_not_write_publishes_no_checkpoint_and_deletes_none(tmp_path):
    """Mutation: `_publish` or `_retire` stands outside of `writing`."""
    lease = Lease.next_of(tmp_path)
    lease.claim()
    checkpoints = Checkpoints(tmp_path / "checkpoints", num_kept=1, writing=lease.writing)
    whole = save(checkpoints, 1)
    Lease.next_of(tmp_path).claim()
    with pytest.raises(Superseded):
        save(checkpoints, 2)
    assert checkpoints.newest() == (whole, [])
    assert not (checkpoints.folder / "step_000002").exists()
