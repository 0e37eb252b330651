import json
from collections.abc import Callable

import pytest
import torch
import xxhash
from torch import Tensor

from rollout.digest import PIECE_BYTES, Digest, TensorSpec, overlap
from rollout.weights import WeightsError, apply, pack

NUM_IN_PIECE = PIECE_BYTES // 4
LENGTHS = [1, NUM_IN_PIECE - 1, NUM_IN_PIECE, 2 * NUM_IN_PIECE + 3]


def numbers(length: int) -> Tensor:
    return torch.arange(length, dtype=torch.float32)


def expected(specs: list[TensorSpec], *tensors: Tensor) -> str:
    """The definition: the specs, then all bytes in one."""
    listed = json.dumps([[s.name, s.shape, s.dtype] for s in specs]).encode()
    return xxhash.xxh3_128(listed + b"".join(t.numpy().tobytes() for t in tensors)).hexdigest()


@pytest.mark.parametrize("length", LENGTHS)
def test_the_digest_is_that_of_all_bytes_in_one_however_they_are_cut(length: int) -> None:
    """Mutation: pieces that skip or repeat an element at a cut."""
    tensor, spec = numbers(length), TensorSpec(name="a", shape=(length,), dtype="float32")
    added, looked, copied = Digest([spec]), Digest([spec]), Digest([spec])
    target = torch.zeros(length)
    added.add(tensor, torch.float32)
    assert looked.add_looking(tensor)
    copied.add_copying(tensor, target, torch.float32)
    digests = {d.hexdigest() for d in (added, looked, copied)}
    assert digests == {expected([spec], tensor)}
    assert torch.equal(target, tensor)


@pytest.mark.parametrize("place", [0, NUM_IN_PIECE - 1, NUM_IN_PIECE, 2 * NUM_IN_PIECE + 2])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_number_that_is_none_is_found_in_every_piece(place: int, value: float) -> None:
    """Mutation: looking at the last piece alone, or at the first."""
    tensor = numbers(LENGTHS[-1])
    tensor[place] = value
    assert not Digest([]).add_looking(tensor)


def test_a_sum_that_overflows_is_nobodys_fault() -> None:
    """2 x 3e38 is more than a float32 holds, about 3.4e38."""
    assert Digest([]).add_looking(torch.full((2,), 3e38))


@pytest.mark.parametrize(
    "make_target",
    [
        lambda: torch.zeros(600, 400).t(),
        lambda: torch.zeros(400, 1200)[:, ::2],
        lambda: torch.zeros(400, 600, dtype=torch.float64),
    ],
    ids=["transposed", "with gaps", "wider"],
)
def test_a_target_that_is_no_flat_copy_takes_the_same_numbers(make_target: Callable[[], Tensor]) -> None:
    source, target = numbers(400 * 600).view(400, 600), make_target()
    copied = Digest([])
    copied.add_copying(source, target, torch.float32)
    assert torch.equal(target.float(), source)
    assert copied.hexdigest() == expected([], source)


def test_the_digest_is_of_what_the_target_holds() -> None:
    """Sent in float32, held in bfloat16: 1 + 2^-9 becomes 1. Mutation: the digest of what was sent."""
    copied = Digest([])
    copied.add_copying(torch.tensor([1 + 2**-9]), torch.zeros(1, dtype=torch.bfloat16), torch.float32)
    assert copied.hexdigest() == expected([], torch.tensor([1.0]))


@pytest.mark.parametrize("place", [0, NUM_IN_PIECE, 2 * NUM_IN_PIECE + 2])
def test_one_bit_anywhere_is_seen_and_nothing_is_changed(place: int) -> None:
    """S8."""
    weights, model = pack(1, {"a": numbers(LENGTHS[-1])}), {"a": torch.zeros(LENGTHS[-1])}
    weights.buffers["float32"].view("uint8")[4 * place] ^= 1
    with pytest.raises(WeightsError, match="the bytes are not those"):
        apply(weights, model)
    assert not model["a"].any()


def test_tensors_overlap_where_they_share_a_byte() -> None:
    """Mutation: the ends one element too early, or too late."""
    memory = torch.zeros(4, 6)
    rows = memory.unbind()
    assert not overlap([rows[2], rows[0], rows[1], torch.empty(0), torch.zeros(3)])
    assert overlap([memory.view(-1)[:7], rows[1]])
    assert overlap([memory, rows[3]])
    # The columns lie between one another. Nothing is shared, but nobody would see at a glance.
    assert overlap([memory[:, 0], memory[:, 1]])
