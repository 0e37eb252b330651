"""Who passes what, and what is told of a rank that is missing."""

from itertools import chain

import pytest
import torch
import torch.distributed as dist

from learner.ranks import ALONE, RankError, Ranks, dealt

PARTS = [[0], [1, 2], [3, 4, 5, 6], [7, 8, 9]]


def rows(parts: list[tuple[list[int], bool]], is_counted: bool = True) -> list[int]:
    return [row for part, counted in parts if counted is is_counted for row in part]


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 4, 5, 8, 16])
@pytest.mark.parametrize("parts", [PARTS, [[5]], [[3], [4], [2]], [list(range(40))]])
def test_every_row_is_passed_once_and_all_ranks_make_the_same_number_of_passes(parts, num_ranks):
    """Mutations: no idle pass; parts that are dealt out without being halved (one part, two ranks)."""
    all_dealt = [dealt(parts, rank, num_ranks) for rank in range(num_ranks)]
    assert sorted(row for mine in all_dealt for row in rows(mine)) == sorted(chain(*parts))
    assert len({len(mine) for mine in all_dealt}) == 1
    # Nobody is idle for more than one pass, and nobody at all while a part has two rows.
    assert all(sum(not counted for _, counted in mine) <= 1 for mine in all_dealt)
    if any(not counted for mine in all_dealt for _, counted in mine):
        assert all(len(part) == 1 for mine in all_dealt for part, _ in mine)


def test_the_largest_part_is_halved_first():
    # 4 parts for 3 ranks: [3, 4, 5, 6] -> [3, 4], [5, 6] and then [7, 8, 9] -> [7], [8, 9].
    assert dealt(PARTS, 0, 3) == [([0], True), ([5, 6], True)]
    assert dealt(PARTS, 1, 3) == [([1, 2], True), ([7], True)]
    assert dealt(PARTS, 2, 3) == [([3, 4], True), ([8, 9], True)]


def test_an_idle_rank_passes_a_row_that_counts_for_nothing():
    assert dealt([[3], [4], [2]], 1, 2) == [([4], True), ([3], False)]


def test_one_rank_has_all_and_sends_nothing():
    tensors = {"x": torch.ones(2)}
    assert ALONE.passes(PARTS) == [(part, True) for part in PARTS]
    assert ALONE.summed(tensors) == tensors
    assert ALONE.same(tensors) == tensors
    with ALONE.together("anything"):
        pass


class Board:
    """Notes in this process; after `num_left` calls its host is gone."""

    def __init__(self, num_left: int = 10**6, **notes: str) -> None:
        self.notes = {name.replace("_", "/"): text for name, text in notes.items()}
        self._num_left = num_left

    def _count(self) -> None:
        self._num_left -= 1
        if self._num_left < 0:
            raise dist.DistNetworkError("Connection reset by peer")

    def set(self, key: str, value: str) -> None:
        self._count()
        self.notes[key] = value

    def get(self, key: str) -> bytes:
        self._count()
        return self.notes[key].encode()

    def check(self, keys: list[str]) -> bool:
        self._count()
        return all(key in self.notes for key in keys)


def failing(ranks: Ranks, error: Exception) -> str:
    with pytest.raises(RankError) as told, ranks.together("update 3"):
        raise error
    return str(told.value)


CLOSED = RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:9")


def test_the_ranks_that_did_not_fail_with_the_others_are_named():
    """Of four, 1 waits, too; 2 was last seen saving, and 3 never. Mutation: name those that wait."""
    board = Board(failed_1="update 3", at_1="update 3", at_2="saving")
    told = failing(Ranks(0, 4, board, sleep=lambda s: None), CLOSED)
    assert told.startswith(
        "update 3: rank 2 (last seen at: saving), rank 3 (last seen at: nothing) of 4 did not take part"
    )
    assert "Connection closed by peer" in told


def test_a_first_rank_that_took_the_notes_with_it_is_named():
    # Its own note at the beginning is the last that comes through.
    told = failing(Ranks(1, 2, Board(num_left=1), sleep=lambda s: None), CLOSED)
    assert "rank 0 (last seen at: nothing) of 2 did not take part" in told


def test_a_rank_that_comes_late_to_say_so_is_not_named():
    board = Board()

    def sleep(_: float) -> None:
        board.notes["failed/1"] = "update 3"

    told = failing(Ranks(0, 2, board, sleep=sleep), CLOSED)
    assert "no rank is missing, the connection between them failed" in told


def test_what_fails_for_another_reason_is_left_as_it_is():
    ranks = Ranks(0, 2, Board(), sleep=lambda s: None)
    with pytest.raises(RuntimeError, match="out of memory"), ranks.together("update 3"):
        raise RuntimeError("out of memory")


def test_several_ranks_need_a_place_for_notes():
    with pytest.raises(ValueError, match="notes"):
        Ranks(0, 2)
