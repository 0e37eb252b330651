import numpy as np
import torch

from rollout.room import Room
from rollout.weights import pack

FLOAT = np.dtype(np.float32)


def test_memory_is_used_again_once_nobody_holds_it() -> None:
    """Mutation: a room that keeps nothing gives another address, or not: so the content is looked at, too."""
    room = Room()
    first = room.take("float32", 1000, FLOAT)
    first.fill(7.0)
    address = first.ctypes.data
    del first
    again = room.take("float32", 1000, FLOAT)
    assert again.ctypes.data == address
    assert np.all(again == 7.0)


def test_what_somebody_holds_a_view_of_is_not_given_out_again() -> None:
    """Mutation: without the question whether the last array is alive, the view shows the second weights."""
    room = Room()
    first = pack(0, {"a": torch.ones(5), "b": torch.full((4,), 2.0)}, room=room)
    [_, (_, held)] = first.tensors()
    del first
    pack(1, {"a": torch.zeros(5), "b": torch.zeros(4)}, room=room)
    assert held.tolist() == [2.0] * 4


def test_a_slice_of_an_array_keeps_it_too() -> None:
    """Mutation: lent as a view of the kept array, whose slices then hold the kept one alone."""
    room = Room()
    held = room.take("float32", 6, FLOAT)[2:4][:1]
    held.fill(3.0)
    room.take("float32", 6, FLOAT).fill(0.0)
    assert held.tolist() == [3.0]


def test_another_length_or_type_gets_memory_of_its_own() -> None:
    room = Room()
    room.take("float32", 10, FLOAT)
    assert room.take("float32", 12, FLOAT).shape == (12,)
    assert room.take("float32", 12, np.dtype(np.int16)).dtype == np.int16
    assert room.take("float32", 0, FLOAT).shape == (0,)


def test_what_is_too_long_is_not_kept() -> None:
    """Mutation: without the bound, the second array is the first one again."""
    room = Room(max_kept_bytes=4 * 9)
    first = room.take("float32", 10, FLOAT)
    first.fill(7.0)
    assert first.flags.owndata, "nobody but its holder has it"
    short = room.take("float32", 9, FLOAT)
    assert not short.flags.owndata
