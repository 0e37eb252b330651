import pytest
import torch

from learner.batch import Batch
from tests.learner.fakes_groups import group, random_groups, trajectory


def test_a_batch_of_two_groups_by_hand() -> None:
    late = group(
        1, [trajectory([5], [6], logprobs=[-0.5], finish_reason="length", version=3)], [0.5], version=3
    )
    early = group(0, [trajectory([7, 8], [1, 2], logprobs=[-0.1, -0.2])], [1.0])
    batch = Batch.from_groups([late, early])
    assert batch.token_ids.tolist() == [[7, 8, 1, 2], [5, 6, 0, 0]]
    assert batch.lengths.tolist() == [4, 2]
    assert batch.action_mask.int().tolist() == [[0, 0, 1, 1], [0, 1, 0, 0]]
    torch.testing.assert_close(batch.logprob_behaviour, torch.tensor([[0, 0, -0.1, -0.2], [0, -0.5, 0, 0]]))
    assert batch.score.tolist() == [1.0, 0.5]
    assert batch.group.tolist() == [0, 1]
    assert batch.is_truncated.tolist() == [False, True]
    assert batch.token_version.tolist() == [[-1, -1, 0, 0], [-1, 3, -1, -1]]


@pytest.mark.parametrize(
    ("completion", "finish_reason"),
    [
        ([1, 2, 9], "stop"),  # eos last
        ([1, 2, 2], "length"),  # truncated
        ([9], "stop"),  # nothing but eos
        ([0, 9, 0, 4], "length"),  # the padding id and eos within the text
    ],
)
def test_the_mask_is_what_was_drawn_whatever_the_ids(completion: list[int], finish_reason: str) -> None:
    """S3: pad id 0, eos id 9, a longer neighbour; nothing is forced, and truncation is not guessed."""
    row = trajectory([0, 9, 3], completion, finish_reason=finish_reason)  # type: ignore[arg-type]
    batch = Batch.from_groups([group(0, [row, trajectory([3], [1] * 20)], [0.25, 0.0])])
    assert batch.action_mask[0].sum() == len(completion)
    assert batch.token_ids[0, batch.action_mask[0]].tolist() == completion
    assert bool(batch.is_truncated[0]) == (finish_reason == "length")


def test_order_of_arrival_does_not_matter() -> None:
    groups = random_groups(4, 2)
    one, other = Batch.from_groups(groups), Batch.from_groups(groups[::-1])
    assert torch.equal(one.token_ids, other.token_ids)
    assert torch.equal(one.score, other.score)


def test_selected_rows_lose_the_columns_that_only_pad() -> None:
    batch = Batch.from_groups([group(0, [trajectory([1], [2]), trajectory([1], [2, 3, 4])], [0.0, 1.0])])
    batch = batch.with_(value=torch.arange(8.0).reshape(2, 4))
    short = batch.select([0])
    assert short.token_ids.tolist() == [[1, 2]]
    assert short["value"].tolist() == [[0.0, 1.0]]
    assert batch.select([1, 0]).score.tolist() == [1.0, 0.0]


def test_a_stream_that_is_not_there_names_those_that_are() -> None:
    batch = Batch.from_groups(random_groups(1, 2)).with_(value_final=torch.zeros(2))
    assert "value_final" in batch
    with pytest.raises(KeyError, match="value_final"):
        batch["value"]


def test_a_stream_of_another_shape_is_refused() -> None:
    batch = Batch.from_groups(random_groups(1, 2))
    with pytest.raises(ValueError, match="'value' has shape"):
        batch.with_(value=torch.zeros(3))


def test_an_action_without_a_state_before_it_is_refused() -> None:
    with pytest.raises(ValueError, match="first token"):
        Batch.from_groups([group(0, [trajectory([], [1])], [0.0])])


def test_no_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="score"):
        Batch.from_groups([])


def test_pairs_are_actions_from_the_end_of_the_prompt() -> None:
    batch = Batch.from_pairs([([1, 2], [3]), ([4], [5, 6])])
    assert batch.token_ids.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert batch.action_mask.int().tolist() == [[0, 0, 1], [0, 1, 1]]
