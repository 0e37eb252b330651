import pytest
import torch

from learner.batch import Batch
from learner.priorities import mean_per_group, per_row
from tests.learner.fakes_groups import group, trajectory


def test_numbers_per_group_find_their_rows_and_the_way_back() -> None:
    # given in the order 2, 0, 1; rows stand in the order 0, 1, 2, of which group 1 has two
    groups = [
        group(2, [trajectory([1], [2])], [0.0]),
        group(0, [trajectory([1], [2])], [0.0]),
        group(1, [trajectory([1], [2]), trajectory([1], [3])], [0.0, 0.0]),
    ]
    numbers = Batch.from_groups(groups).group
    assert per_row([20.0, 0.0, 10.0], groups, numbers).tolist() == [0.0, 10.0, 10.0, 20.0]
    assert mean_per_group(torch.tensor([1.0, 2.0, 4.0, 7.0]), groups, numbers) == [7.0, 1.0, 3.0]


def test_there_must_be_a_number_for_each_group() -> None:
    groups = [group(0, [trajectory([1], [2])], [0.0])]
    with pytest.raises(ValueError, match="1 groups, got 2"):
        per_row([1.0, 2.0], groups, torch.tensor([0]))
    with pytest.raises(ValueError, match="equal shapes"):
        mean_per_group(torch.zeros(2), groups, torch.tensor([0]))
