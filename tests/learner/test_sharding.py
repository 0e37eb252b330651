"""Two ranks on two processes (gloo) compute what one does: losses, weights, checkpoints.

The processes are those of drive_ranks.py, started once for all tests of this module. Gradients of the parts
of a batch are added in another order, so that numbers differ by the rounding of float32; where there are two
parts in all, there is only one order, and the weights are equal bit for bit.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.learner.drive_ranks import DEADLINE_S

pytestmark = pytest.mark.timeout(DEADLINE_S + 100)

ROOT = Path(__file__).parents[2]
ROUNDING = 5e-6
"""Of weights of the order of 1 after 12 steps; a step goes 1e-3 far. Seen: 2.5e-7."""
RANKS = ((0, 1), (0, 2), (1, 2))
"""(rank, number of ranks) of each process."""


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-W", "ignore", "-m", "tests.learner.drive_ranks", str(folder)]
    processes = [
        subprocess.Popen([*command, str(rank), str(num)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for rank, num in RANKS
    ]
    try:
        said = [process.communicate(timeout=DEADLINE_S)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0, 0], said
    return folder


def told(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / name / "told.json").read_text())
    return found


def tensors(folder: Path, name: str, file: str = "weights") -> dict[str, Tensor]:
    return load_file(folder / name / f"{file}.safetensors")


def assert_same_tensors(one: dict[str, Tensor], other: dict[str, Tensor], bound: float) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.shape == other[name].shape, name
        torch.testing.assert_close(tensor, other[name], rtol=0, atol=bound, msg=name)


def assert_same_metrics(one: list[dict[str, Any]], other: list[dict[str, Any]], bound: float) -> None:
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert b[name] == pytest.approx(a[name], rel=bound, abs=bound), name


RUNS = ["grpo", "ppo", "dqn", "soft_q", "untied", "idle"]


@pytest.mark.parametrize("name", RUNS)
def test_two_ranks_tell_the_numbers_that_one_tells(played: Path, name: str) -> None:
    """Losses, norms, mismatch, temporal differences of each group, of 12 steps.

    Mutations: the mean of the gradients over ranks (grad_norm halves); streams not added up (the second
    rank's rows have log-prob 0); the tally not added up; the norm of a rank's own part; idle passes that
    count.
    """
    one, two = (told(played, f"{name}_{num}")["metrics"] for num in (1, 2))
    assert_same_metrics(one, two, 1e-5)
    assert one[-1]["num_skipped"] == 0
    assert (one[0]["td_errors"] != []) == (name in ("dqn", "soft_q"))


@pytest.mark.parametrize("name", RUNS)
def test_two_ranks_end_with_the_weights_that_one_ends_with(played: Path, name: str) -> None:
    """What travels to actors, the Q function of dqn among it, whole and under the same names.

    Mutation: a rank without its part of the values of the first (`broadcast` left out).
    """
    assert_same_tensors(tensors(played, f"{name}_1"), tensors(played, f"{name}_2"), ROUNDING)


def test_between_updates_no_rank_keeps_anything_whole(played: Path) -> None:
    """The reference neither, which has no backward that would let go. Mutation: leave `let_go` out."""
    assert [told(played, f"ppo_{num}")["is_split"] for num in (1, 2)] == [False, True]


def test_tied_weights_travel_once(played: Path) -> None:
    """Llama's unembedding is its embedding; Qwen2 has both. Mutation: gather each name by itself."""
    assert "lm_head.weight" in tensors(played, "grpo_2")
    assert "model.embed_tokens.weight" not in tensors(played, "grpo_2")
    assert {"lm_head.weight", "model.embed_tokens.weight"} <= tensors(played, "untied_2").keys()


@pytest.mark.parametrize("digest", ["digest", "half_digest"])
def test_with_one_part_for_each_rank_the_weights_are_equal_bit_for_bit(played: Path, digest: str) -> None:
    """Three steps of two parts each. Mutation: divide by the tokens of the rank alone."""
    assert told(played, "exact_1")[digest] == told(played, "exact_2")[digest]


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_a_checkpoint_of_two_ranks_is_that_of_one(played: Path, name: str) -> None:
    """Weights, reference, moments, controllers, under the same names in the same shapes."""
    assert_same_tensors(
        tensors(played, f"{name}_1", "learner"), tensors(played, f"{name}_2", "learner"), ROUNDING
    )
    shapes = [json.loads((played / f"{name}_{num}" / "learner.json").read_text()) for num in (1, 2)]
    assert shapes[0].keys() == shapes[1].keys()
    assert shapes[0]["optimizer"] == shapes[1]["optimizer"]


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_a_run_goes_on_with_another_number_of_ranks(played: Path, name: str) -> None:
    """Saved by two and continued by one, and the other way round. Mutation: load no moments."""
    down, up = f"{name}_2_then_1", f"{name}_1_then_2"
    assert_same_metrics(told(played, down)["metrics"], told(played, up)["metrics"], 1e-5)
    assert_same_tensors(tensors(played, down), tensors(played, up), ROUNDING)
    moved = tensors(played, down)["model.layers.0.mlp.up_proj.weight"]
    assert not torch.equal(moved, tensors(played, f"{name}_2")["model.layers.0.mlp.up_proj.weight"])


def test_in_half_precision_two_ranks_agree_within_the_rounding_of_bfloat16(played: Path) -> None:
    """Norms are the only weights that are rounded in one and not in the other; they begin at 1."""
    one, two = (told(played, f"half_{num}")["metrics"] for num in (1, 2))
    assert_same_metrics(one, two, 2**-8)


def test_a_batch_that_is_refused_is_refused_by_all_ranks_before_weights_change(played: Path) -> None:
    assert [(played / f"refused_{rank}.txt").read_text() for rank in (0, 1)] == ["as before"] * 2


def test_a_rank_that_does_not_come_is_named_with_what_it_did_last(played: Path) -> None:
    said = (played / "missed.txt").read_text()
    assert "update 7: rank 1 (last seen at: publication 6) of 2 did not take part" in said
