"""Trajectories of earlier runs: what is read of them, in which order, and what is refused."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from antiphon.errors import UserError
from learner.logged import FIRST_EPOCH, FOREIGN_VERSION, Limits, Logged, piece_of
from learner.logged_stream import PIECES_AT_ONCE, LoggedStream
from reward_service.types import Score, Status
from rollout.types import Group
from tests.learner.fakes_groups import group, random_groups, trajectory
from tests.learner.fakes_stores import LIMITS, number, numbered, ragged_run, small_run, write_run


def test_groups_come_back_as_they_were_under_keys_of_their_own(tmp_path: Path) -> None:
    stored = [random_groups(5, 2, seed=seed) for seed in range(2)]
    logged = Logged([ragged_run(tmp_path)], LIMITS)
    assert (logged.num_files, logged.num_pieces, logged.num_trajectories) == (2, 2, 20)
    read = logged.read(1)
    assert [g.key for g in read] == [(FIRST_EPOCH - 1, index) for index in range(5)]
    assert {g.policy_version for g in read} == {FOREIGN_VERSION}
    assert {piece_of(g.key) for g in read} == {1}
    as_stored = [replace(g, epoch=0, policy_version=0) for g in read]
    assert as_stored == stored[1]


def test_places_are_run_directories_or_folders_of_trajectories(tmp_path: Path) -> None:
    run = small_run(tmp_path / "a")
    both = Logged([run, str(tmp_path / "a" / "trajectories")], LIMITS)
    assert both.num_trajectories == 24
    with pytest.raises(ValueError, match="6 pieces, 6 was asked for"):
        both.read(6)


def test_a_large_file_is_read_in_pieces(tmp_path: Path) -> None:
    logged = Logged([write_run(tmp_path, [numbered(0, 600)])], LIMITS)
    # 256 groups are one piece.
    assert logged.num_pieces == 3
    assert [len(logged.read(piece)) for piece in range(3)] == [256, 256, 88]


def test_pieces_are_counted_through_all_files(tmp_path: Path) -> None:
    logged = Logged([write_run(tmp_path, [numbered(0, 300), numbered(300, 300)])], LIMITS)
    assert [number(logged.read(piece)[0]) for piece in range(4)] == [0, 256, 300, 556]


def test_long_trajectories_make_small_pieces(tmp_path: Path) -> None:
    long = [group(i, [trajectory([1], [2] * 99_999)], [0.0]) for i in range(5)]
    logged = Logged([write_run(tmp_path, [long])], replace(LIMITS, max_tokens=None))
    # 3 x 100 000 tokens are more than 250 000.
    assert [len(logged.read(piece)) for piece in range(logged.num_pieces)] == [3, 2]


def stream_of(place: str, seed: int = 0) -> LoggedStream:
    return LoggedStream(Logged([place], LIMITS), seed)


def test_each_pass_gives_every_group_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    place = small_run(tmp_path, num_files=2 * PIECES_AT_ONCE + 1)
    stream = stream_of(place)
    passes = [[number(stream.next()) for _ in range(36)] for _ in range(2)]
    assert [sorted(numbers) for numbers in passes] == [list(range(36))] * 2
    assert passes[0] != passes[1]
    assert stream.num_passes == 2
    # Pieces are mixed: the first 4 do not come from one file.
    assert len({n // 4 for n in passes[0][:4]}) > 1
    other = stream_of(place, seed=1)
    assert [number(other.next()) for _ in range(36)] != passes[0]


def test_each_pass_takes_the_pieces_in_an_order_of_its_own(tmp_path: Path) -> None:
    # Files of one group: the numbers are those of the pieces.
    stream = stream_of(small_run(tmp_path, num_files=2 * PIECES_AT_ONCE, num_groups=1))
    passes = [[number(stream.next()) for _ in range(8)] for _ in range(4)]
    assert [sorted(numbers) for numbers in passes] == [list(range(8))] * 4
    first_handfuls = {frozenset(numbers[:PIECES_AT_ONCE]) for numbers in passes}
    assert len(first_handfuls) > 2


@pytest.mark.parametrize("num_read", [0, 1, 15, 16, 17, 35, 36, 50])
def test_a_stream_goes_on_where_it_stood(tmp_path: Path, num_read: int) -> None:
    place = small_run(tmp_path, num_files=2 * PIECES_AT_ONCE + 1)
    stream = stream_of(place)
    for _ in range(num_read):
        stream.next()
    other = stream_of(place)
    other.load_state_dict(json.loads(json.dumps(stream.state_dict())))
    assert other.num_passes == stream.num_passes
    assert [other.next() for _ in range(40)] == [stream.next() for _ in range(40)]


def test_files_that_came_after_a_checkpoint_are_left_alone(tmp_path: Path) -> None:
    place = small_run(tmp_path / "a", num_files=2)
    state = json.loads(json.dumps(Logged([place], LIMITS).state_dict()))
    small_run(tmp_path / "a", num_files=4)
    later = Logged([place], LIMITS)
    assert later.num_files == 4
    later.load_state_dict(state)
    assert (later.num_files, later.num_trajectories) == (2, 8)


def test_files_that_have_changed_since_a_checkpoint_are_refused(tmp_path: Path) -> None:
    place = small_run(tmp_path / "a", num_files=2)
    state = Logged([place], LIMITS).state_dict()
    write_run(tmp_path / "a", [numbered(0, 9)])
    with pytest.raises(UserError, match=r"1 files .* the first is version=000000/groups.parquet"):
        Logged([place], LIMITS).load_state_dict(state)


def test_stores_may_have_moved_since_a_checkpoint(tmp_path: Path) -> None:
    state = Logged([small_run(tmp_path / "a")], LIMITS).state_dict()
    moved = Logged([small_run(tmp_path / "b")], LIMITS)
    moved.load_state_dict(state)
    assert moved.num_files == 3


def file_of(place: Path | str) -> Path:
    """The first file of a run."""
    return Path(place) / "trajectories" / "version=000000" / "groups.parquet"


def refused(place: Path | str, limits: Limits = LIMITS) -> UserError:
    with pytest.raises(UserError) as caught:
        Logged([str(place)], limits)
    assert caught.value.remedy
    return caught.value


def test_a_place_without_trajectories_is_refused(tmp_path: Path) -> None:
    assert f"no trajectories are stored in {tmp_path}" in refused(tmp_path).problem
    assert "no trajectories are stored" in refused(tmp_path / "nowhere").problem
    assert "no trajectories are stored" in refused(write_run(tmp_path / "empty", [[]])).problem


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    place = small_run(tmp_path)
    problem = refused(place, replace(LIMITS, tokenizer="u")).problem
    assert "are of the tokenizer t, the model of this run has the tokenizer u" in problem
    nameless = write_run(tmp_path / "nameless", [numbered(0, 1)], tokenizer="")
    assert "do not say of which tokenizer" in refused(nameless).problem


def test_ids_that_the_model_does_not_know_are_refused(tmp_path: Path) -> None:
    rows = [group(0, [trajectory([1], [31])], [0.0]), group(1, [trajectory([1], [32])], [0.0])]
    place = write_run(tmp_path, [rows])
    assert "holds the token id 32, the vocabulary of the model has 32" in refused(place).problem
    assert Logged([place], replace(LIMITS, vocab_size=33)).num_trajectories == 2


def unscored(status: Status = Status.TIMEOUT) -> Group:
    whole = group(7, [trajectory([1], [2])] * 2, [0.0, 1.0])
    return replace(whole, scores=(whole.scores[0], Score(id="0/7/1", status=status, value=None)))


def test_trajectories_without_rewards_are_refused(tmp_path: Path) -> None:
    place = write_run(tmp_path, [numbered(0, 2), [*numbered(2, 2), unscored()]])
    error = refused(place)
    assert "1 of the 4 trajectories in" in error.problem
    assert "have no reward" in error.problem


def test_missing_rewards_are_found_without_statistics_in_the_footer_too(tmp_path: Path) -> None:
    place = write_run(tmp_path, [[unscored()]])
    path = file_of(place)
    pq.write_table(pq.ParquetFile(path).read(), path, write_statistics=False)
    logged = Logged([place], LIMITS)
    with pytest.raises(UserError, match=r"a trajectory of prompt '7' .* has no reward"):
        logged.read(0)


def test_a_reward_that_is_no_number_is_refused_when_it_is_read(tmp_path: Path) -> None:
    place = write_run(tmp_path, [numbered(0, 1)])
    path = file_of(place)
    table = pq.ParquetFile(path).read()
    column = table.schema.get_field_index("score_value")
    values = pa.array([float("nan")], pa.float64())
    pq.write_table(table.set_column(column, table.schema.field(column), values), path)
    with pytest.raises(UserError, match="the value of a score must be finite"):
        Logged([place], LIMITS).read(0)


def test_a_trajectory_that_is_too_long_for_the_model_is_refused_when_it_is_read(tmp_path: Path) -> None:
    place = write_run(tmp_path, [[group(0, [trajectory([1], [2] * 64)], [0.0])]])
    with pytest.raises(UserError, match="has 65 tokens, the model takes 64"):
        Logged([place], LIMITS).read(0)
    assert len(Logged([place], replace(LIMITS, max_tokens=65)).read(0)) == 1


def test_other_columns_are_refused(tmp_path: Path) -> None:
    place = Path(small_run(tmp_path, num_files=1))
    path = file_of(place)
    table = pq.ParquetFile(path).read()
    pq.write_table(table.drop_columns(["score_value", "logprobs"]), path)
    assert "lacks the columns logprobs, score_value of a trajectory store" in refused(place).problem
    changed = table.set_column(0, "epoch", table["epoch"].cast("int32"))
    pq.write_table(changed, path)
    assert "has columns of other types of a trajectory store" in refused(place).problem


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    place = Path(small_run(tmp_path, num_files=1))
    path = file_of(place)
    path.write_bytes(path.read_bytes()[:-20])
    assert "cannot be read as trajectories" in refused(place).problem


def test_a_file_that_is_cut_short_while_the_run_goes_on_is_told_of(tmp_path: Path) -> None:
    place = Path(small_run(tmp_path, num_files=1))
    logged = Logged([str(place)], LIMITS)
    path = file_of(place)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="cannot be read as trajectories"):
        logged.read(0)


def test_every_group_of_two_stores_is_read_as_often_as_any_other(tmp_path: Path) -> None:
    places = [small_run(tmp_path / "a", 2), write_run(tmp_path / "b", [numbered(100, 3)])]
    stream = LoggedStream(Logged(places, LIMITS), 0)
    counted = Counter(number(stream.next()) for _ in range(3 * 11))
    assert counted == dict.fromkeys([*range(8), 100, 101, 102], 3)
