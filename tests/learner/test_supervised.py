import pytest
import torch

from learner.supervised import SupervisedConfig, supervise
from tests.learner.fakes_models import table_lm, tiny_llama

PAIRS = [([1, a], [b, 9]) for a, b in zip(range(2, 8), range(12, 18), strict=True)]


def test_a_model_learns_its_pairs() -> None:
    lm = tiny_llama()
    metrics = supervise(lm, PAIRS, SupervisedConfig(num_steps=60, batch_size=6, lr=3e-2), seed=0)
    assert metrics["loss/supervised"] < 0.1
    assert metrics["num_steps"] == 60
    with torch.no_grad():
        answer = lm(torch.tensor([[1, 4]])).logits[0, -1].argmax()
    assert answer == 14


def test_the_loss_is_nats_per_target_token_by_hand() -> None:
    # Uniform over 4 tokens: ln 4 per token, whatever the lengths of the targets.
    pairs = [([0], [1]), ([0, 1], [2, 3, 1])]
    config = SupervisedConfig(num_steps=1, batch_size=2, max_tokens_per_micro_batch=3)
    metrics = supervise(table_lm(torch.zeros(4, 4)), pairs, config, seed=0)
    assert metrics["loss/supervised"] == pytest.approx(1.386294)


def test_the_same_seed_gives_the_same_weights_and_another_does_not() -> None:
    def trained(seed: int) -> torch.Tensor:
        lm = tiny_llama()
        supervise(lm, PAIRS, SupervisedConfig(num_steps=5, batch_size=2), seed=seed)
        return lm.lm_head.weight.detach()

    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))


def test_the_caller_ends_the_phase() -> None:
    story: list[int] = []

    def stop_after_three(step: int, metrics: dict[str, float]) -> bool:
        story.append(step)
        return step == 3

    metrics = supervise(tiny_llama(), PAIRS, SupervisedConfig(num_steps=50), seed=0, on_step=stop_after_three)
    assert story == [1, 2, 3]
    assert metrics["num_steps"] == 3


@pytest.mark.parametrize("pairs", [[], [([], [1])], [([1], [])]])
def test_pairs_that_teach_nothing_are_refused(pairs: list[tuple[list[int], list[int]]]) -> None:
    with pytest.raises(ValueError, match="pairs"):
        supervise(tiny_llama(), pairs, SupervisedConfig(), seed=0)
