from hypothesis import given, settings
from hypothesis import strategies as st

from learner.batch import Batch
from learner.layout import lay_out
from learner.micro_batches import micro_batches, minibatches, plan
from tests.learner.fakes_groups import random_groups


@settings(max_examples=30, deadline=None)
@given(
    num_groups=st.integers(1, 6),
    num_samples=st.integers(1, 5),
    max_tokens=st.integers(1, 200),
    share_prompts=st.booleans(),
    seed=st.integers(0, 9),
)
def test_every_row_is_in_one_part_and_parts_keep_to_the_budget(
    num_groups: int, num_samples: int, max_tokens: int, share_prompts: bool, seed: int
) -> None:
    batch = Batch.from_groups(random_groups(num_groups, num_samples, seed=seed))
    parts = micro_batches(batch, range(batch.num_rows), max_tokens, share_prompts)
    assert sorted(row for part in parts for row in part) == list(range(batch.num_rows))
    for part in parts:
        size = lay_out(batch.select(part), share_prompts).token_ids.numel()
        # Where sharing would save less than a fifth, rows stay apart and are that much longer.
        assert size <= max_tokens / 0.8 or len(part) == 1


def test_minibatches_keep_groups_whole_and_are_drawn_from_the_seed() -> None:
    batch = Batch.from_groups(random_groups(6, 2))
    one, other = minibatches(batch, 3, seed=1), minibatches(batch, 3, seed=2)
    assert [len(part) for part in one] == [4, 4, 4]
    assert one == minibatches(batch, 3, seed=1)
    assert one != other
    for part in one:
        assert sorted(row // 2 for row in part) == sorted([row // 2 for row in part[::2]] * 2)


def test_with_fewer_groups_than_minibatches_each_group_is_one() -> None:
    batch = Batch.from_groups(random_groups(2, 2))
    assert len(minibatches(batch, 5, seed=0)) == 2


def test_a_plan_sees_every_row_once_per_epoch() -> None:
    batch = Batch.from_groups(random_groups(4, 2))
    steps = plan(batch, num_epochs=3, num_minibatches=2, max_tokens=50, share_prompts=True, seed=0)
    assert len(steps) == 6
    for epoch in range(3):
        rows = [row for step in steps[2 * epoch : 2 * epoch + 2] for part in step for row in part]
        assert sorted(rows) == list(range(8))
