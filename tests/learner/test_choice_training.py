"""Double DQN over candidates: the exact Q of a dialogue, and what an update does and depends on."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from learner.choice.measure import measure, values_of
from learner.choice.model import ChoiceModel
from learner.choice.network import QNetwork, QNetworkConfig
from learner.choice.replay import PrioritizedReplay, ReplayConfig, UniformReplay
from learner.choice.sources import FrozenVectors
from learner.choice.table import ChoiceTable, Texts, TransitionTable
from learner.choice.trainer import ChoiceTrainer
from learner.choice.transitions import Choice
from learner.state import load_state, save_state
from tests.learner.fakes_choice import (
    RecordingSource,
    q_of,
    step,
    support_desk,
    table_model,
    trainer_of,
)

PRIORITIZED = ReplayConfig(name="prioritized")


def texts_of(transitions: list[Any]) -> Texts:
    """Numbers for all texts of these."""
    texts = Texts()
    for t in transitions:
        for state, actions in ((t.state, t.actions), (t.next_state, t.next_actions)):
            if state:
                texts.state(state)
            for action in actions:
                texts.action(action)
    return texts


@pytest.mark.parametrize(
    ("gamma", "changes"),
    [
        (0.9, {}),
        (0.4, {}),
        (0.9, {"replay": PRIORITIZED}),
        (0.9, {"is_double": False}),
        (0.9, {"tau": 0.2, "target_every": 1}),
    ],
    ids=["patient", "impatient", "prioritized", "single", "polyak"],
)
def test_the_exact_q_of_every_act_is_learned(gamma: float, changes: dict[str, Any]) -> None:
    transitions, choices = support_desk(gamma)
    texts = texts_of(transitions)
    trainer = trainer_of(transitions, texts, num_updates=600, gamma=gamma, **changes)
    for _ in range(600):
        trainer.update()
    table = ChoiceTable.of(choices, texts)
    found = measure(values_of(trainer.model, table), table, 0.0, 0.0)
    assert found["value_error_max"] < 1e-3
    assert found["accuracy"] == 1.0


def test_the_discount_decides_between_a_question_and_a_voucher() -> None:
    """γ = 0.9: the right question is worth 0.9 · 1 > 0.5; a wrong one first 0.9 · 0.9. γ = 0.4: 0.4 < 0.5."""
    for gamma, best, values in (
        (0.9, "Ask for the order number.", (0.9, 0.81, 0.81, 0.5)),
        (0.4, "Offer a voucher and close.", (0.4, 0.2, 0.2, 0.5)),
    ):
        first = support_desk(gamma)[1][0]
        assert first.values == pytest.approx(values)
        assert first.actions[max(range(4), key=first.values.__getitem__)] == best


def test_an_episode_that_was_broken_off_is_not_done() -> None:
    """γ = 0.5: what leads on to "b" is worth 0.25 + 0.5 · 1; what is done 0.25 alone."""
    transitions = [
        step("s", "on", 0.25, "t", "b"),
        step("s", "end", 0.25, is_done=True),
        step("t", "b", 1.0),
    ]
    texts = texts_of(transitions)
    trainer = trainer_of(transitions, texts, num_updates=400, gamma=0.5)
    for _ in range(400):
        trainer.update()
    assert q_of(trainer.model, texts, "s", "on") == pytest.approx(0.75, abs=1e-3)
    assert q_of(trainer.model, texts, "s", "end") == pytest.approx(0.25, abs=1e-3)


def test_the_target_network_moves_at_its_schedule_alone() -> None:
    transitions = [step("s", "a", 1.0)]
    trainer = trainer_of(transitions, texts_of(transitions), tau=1.0, target_every=3)
    seen = []
    for _ in range(6):
        trainer.update()
        state = trainer.state_dict()
        older, newer = state["target"]["network.table"], state["online"]["network.table"]
        seen.append((float(older.abs().sum()), bool(torch.equal(older, newer))))
    assert [is_equal for _, is_equal in seen] == [False, False, True, False, False, True]
    # Nothing in between: 0 until the third update, then what it was there until the sixth.
    assert [size for size, _ in seen[:2]] == [0.0, 0.0]
    assert seen[2][0] == seen[3][0] == seen[4][0] != seen[5][0]


def test_the_target_network_goes_a_share_of_the_way() -> None:
    model = table_model(1)
    older = model.older_copy()
    with torch.no_grad():
        model.network.table.fill_(1.0)
    older.follow(model, 0.25)
    older.follow(model, 0.25)
    # 0 + ¼ · 1 = 0.25, then ¾ · 0.25 + ¼ · 1.
    assert older.network.table.tolist() == [[0.4375]]
    assert model.network.table.tolist() == [[1.0]]
    assert not any(p.requires_grad for p in older.parameters())


def test_an_update_moves_the_target_network_by_tau() -> None:
    transitions = [step("s", "a", 1.0)]
    trainer = trainer_of(transitions, texts_of(transitions), tau=0.25, target_every=1)
    trainer.update()
    state = trainer.state_dict()
    assert torch.equal(state["target"]["network.table"], 0.25 * state["online"]["network.table"])


@pytest.mark.parametrize(("is_double", "rewards"), [(True, (6.0, 1.0)), (False, (1.0, 1.0))])
def test_targets_are_made_of_both_networks_and_of_candidates_that_are_there(
    is_double: bool, rewards: tuple[float, float]
) -> None:
    """In t the newer network says x −1, y −2, the older one x −20, y −10, and γ = ½.

    Double: x, of −20, with a reward of 6: 6 − 10 = −4. Single: y, of −10: 1 − 5 = −4. Where y is the only
    candidate 1 − 5 = −4, too; the gap beside it would seem to be worth 0.
    """
    transitions = [step("s", "a", rewards[0], "t", "x", "y"), step("s", "b", rewards[1], "t", "y")]
    texts = texts_of(transitions)
    trainer = trainer_of(transitions, texts, gamma=0.5, is_double=is_double)
    state = trainer.state_dict()
    t, x, y = (texts.as_read().index(name) for name in "txy")
    for network, values in (("online", (-1.0, -2.0)), ("target", (-20.0, -10.0))):
        table = torch.zeros(len(texts), len(texts))
        table[t, x], table[t, y] = values
        state[network] = {"network.table": table}
    trainer.load_state_dict(state)
    assert trainer.update()["q/target"] == pytest.approx(-4.0)


def test_an_update_reports_what_it_did() -> None:
    transitions = [step("s", "a", 2.0)]
    trainer = trainer_of(transitions, texts_of(transitions), huber_delta=1.0)
    numbers = trainer.update()
    # Q = 0 against a target of 2: |δ| = 2, and the loss is linear beyond 1: 2 − ½.
    assert numbers["q/td_error"] == 2.0
    assert numbers["q/loss"] == pytest.approx(1.5)
    assert (numbers["q/mean"], numbers["q/target"]) == (0.0, 2.0)
    # d loss / dQ of the one entry of the table is −1, whatever the batch size.
    assert numbers["optimizer/grad_norm"] == pytest.approx(1.0)
    assert trainer.version == 1
    assert trainer.update()["q/mean"] > 0.0


def test_the_conservative_term_lowers_what_was_never_tried() -> None:
    transitions = [step("s", "a", 1.0, actions=("a", "b"))]
    found = {}
    for weight in (0.0, 0.5):
        texts = texts_of(transitions)
        trainer = trainer_of(transitions, texts, num_updates=300, cql_weight=weight)
        for _ in range(300):
            trainer.update()
        found[weight] = [q_of(trainer.model, texts, "s", action) for action in ("a", "b")]
    assert found[0.0] == pytest.approx([1.0, 0.0], abs=1e-3)
    # Where it stands still in a: (Q_a − 1) = 0.5 · (1 − p_a) > 0.
    q_a, q_b = found[0.5]
    p_a = 1.0 / (1.0 + math.exp(q_b - q_a))
    assert q_a - 1.0 == pytest.approx(0.5 * (1.0 - p_a), abs=0.02)
    assert q_b < -1.0


def test_without_the_conservative_term_other_candidates_are_not_read() -> None:
    transitions = [step("s", "a", 1.0, actions=("a", "b"))]
    for weight, read in ((0.0, {"s", "a"}), (0.5, {"s", "a", "b"})):
        texts = texts_of(transitions)
        source = RecordingSource(torch.eye(len(texts)))
        trainer_of(transitions, texts, table_model(len(texts), source), cql_weight=weight).update()
        assert {texts.as_read()[i] for i in source.read} == read


def mixed_trainer(rows_per_micro_batch: int, **changes: Any) -> ChoiceTrainer:
    """A Q network on random vectors of the support desk, with everything switched on."""
    transitions, _ = support_desk(0.9)
    texts = texts_of(transitions)
    vectors = torch.randn(len(texts), 12, generator=torch.Generator().manual_seed(5))
    config = QNetworkConfig(rank=8, hidden_size=16, dropout=changes.pop("dropout", 0.0))
    network = QNetwork(config, 12, seed=1)
    model = ChoiceModel(FrozenVectors(vectors), network)
    training = {"batch_size": 30, "rows_per_micro_batch": rows_per_micro_batch}
    return trainer_of(
        transitions, texts, model, lr=0.003, replay=PRIORITIZED, cql_weight=0.1, training=training, **changes
    )


def test_micro_batches_change_nothing() -> None:
    whole, parts = mixed_trainer(1000), mixed_trainer(7)
    for _ in range(3):
        one, other = whole.update(), parts.update()
        assert one == pytest.approx(other, rel=1e-4)
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_a_run_that_goes_on_is_the_run_that_was_never_stopped(tmp_path: Path) -> None:
    def numbers(trainer: ChoiceTrainer, num: int) -> list[dict[str, float]]:
        return [trainer.update() for _ in range(num)]

    whole = mixed_trainer(1000, dropout=0.2)
    expected = numbers(whole, 10)
    first = mixed_trainer(1000, dropout=0.2)
    begun = numbers(first, 6)
    save_state(first.state_dict(), tmp_path, "choice")
    second = mixed_trainer(1000, dropout=0.2)
    second.load_state_dict(load_state(tmp_path, "choice"))
    assert begun + numbers(second, 4) == expected
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_state_of_other_data_is_refused() -> None:
    transitions = [step("s", "a", 1.0), step("s", "a", 0.0)]
    texts = texts_of(transitions)
    one = trainer_of(transitions, texts, replay=PRIORITIZED)
    other = trainer_of(transitions[:1], texts, replay=PRIORITIZED)
    with pytest.raises(ValueError, match="2 transitions, not 1"):
        other.load_state_dict(one.state_dict())


def test_dropout_learns_with_less_and_measures_with_all() -> None:
    network = QNetwork(QNetworkConfig(rank=4, hidden_size=0, dropout=0.5), 3, seed=1)
    torch.nn.init.ones_(network.last.weight)
    states, actions = torch.ones(1, 3), torch.ones(1, 2, 3)
    plain = network(states, actions)
    assert torch.equal(plain, network(states, actions))
    seeded = [network(states, actions, torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(*seeded)
    assert not torch.allclose(plain, seeded[0])
    # What is kept counts double: in the mean over many draws nothing changes.
    generator = torch.Generator().manual_seed(2)
    mean = torch.stack([network(states, actions, generator) for _ in range(4000)]).mean(dim=0)
    assert torch.allclose(mean, plain, atol=0.1)


def test_uniform_draws_depend_on_seed_and_version_alone() -> None:
    one, other = UniformReplay(50, seed=1), UniformReplay(50, seed=1)
    one.draw(5, version=0)
    assert torch.equal(one.draw(5, version=3).numbers, other.draw(5, version=3).numbers)
    assert not torch.equal(one.draw(5, version=3).numbers, one.draw(5, version=4).numbers)
    assert not torch.equal(
        UniformReplay(50, seed=2).draw(5, version=3).numbers, one.draw(5, version=3).numbers
    )
    drawn = one.draw(2000, version=0)
    assert drawn.numbers.unique().tolist() == list(range(50))
    assert drawn.weights.unique().tolist() == [1.0]


def test_what_surprised_is_drawn_more_often_and_counts_less() -> None:
    replay = PrioritizedReplay(ReplayConfig(name="prioritized", alpha=1.0, beta=1.0, epsilon=0.5), 4, seed=1)
    assert sorted(replay.draw(8, version=0).numbers.tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]
    replay.revise(torch.tensor([0, 1, 2, 3]), torch.tensor([0.5, 0.5, 0.5, 4.5]))
    drawn = replay.draw(8, version=0)
    # p = |δ| + ½ = 1, 1, 1, 5 of 8: of eight equal shares the last has five. w = (4 p / 8)^−1 = 2, 2, 2, 0.4,
    # and 1, 1, 1, 0.2 of the largest.
    assert sorted(drawn.numbers.tolist()) == [0, 1, 2, 3, 3, 3, 3, 3]
    assert drawn.weights[drawn.numbers == 3].tolist() == pytest.approx([0.2] * 5)
    assert drawn.weights[drawn.numbers != 3].tolist() == pytest.approx([1.0] * 3)


def test_exponents_soften_what_priorities_do() -> None:
    config = ReplayConfig(name="prioritized", alpha=0.5, beta=0.5, epsilon=1.0)
    replay = PrioritizedReplay(config, 2, seed=1)
    replay.revise(torch.tensor([1]), torch.tensor([8.0]))
    drawn = replay.draw(4, version=0)
    # p^½ = 1 and 3 of 4. w = (2 / 4)^−½ and (2 · 3 / 4)^−½: their ratio is √(1/3).
    assert sorted(drawn.numbers.tolist()) == [0, 1, 1, 1]
    assert drawn.weights[drawn.numbers == 1].tolist() == pytest.approx([math.sqrt(1 / 3)] * 3)


def test_an_update_tells_the_replay_what_surprised() -> None:
    transitions = [step("s", "a", 1.0), step("s", "b", 3.0)]
    replay = ReplayConfig(name="prioritized", epsilon=0.25)
    trainer = trainer_of(transitions, texts_of(transitions), replay=replay)
    trainer.update()
    # Q was 0, so |δ| are the rewards.
    assert trainer.state_dict()["replay"]["priorities"].tolist() == [1.25, 3.25]


def test_every_update_drops_other_features() -> None:
    transitions = [step("s", "a", 0.0)]
    texts = texts_of(transitions)
    network = QNetwork(QNetworkConfig(rank=4, hidden_size=0, dropout=0.5), 3, seed=1)
    torch.nn.init.ones_(network.last.weight)
    model = ChoiceModel(FrozenVectors(torch.ones(len(texts), 3)), network)
    trainer = trainer_of(transitions, texts, model, lr=1e-12, training={"batch_size": 1})
    assert len({trainer.update()["q/mean"] for _ in range(5)}) > 1


def test_the_weights_reach_the_loss() -> None:
    """Two transitions, one drawn three times as often and counted a third: the same pull on both."""
    transitions = [step("s", "a", 1.0), step("s", "b", 1.0)]
    texts = texts_of(transitions)
    replay = ReplayConfig(name="prioritized", alpha=1.0, beta=1.0, epsilon=1.0)
    trainer = trainer_of(transitions, texts, replay=replay, training={"batch_size": 4})
    state = trainer.state_dict()
    state["replay"]["priorities"] = torch.tensor([1.0, 3.0], dtype=torch.float64)
    trainer.load_state_dict(state)
    numbers = trainer.update()
    assert numbers["replay/weight_min"] == pytest.approx(1 / 3)
    # Loss ½ (0 − 1)² each: once with weight 1, three times with ⅓, over 4: ½ · 2 / 4.
    assert numbers["q/loss"] == pytest.approx(0.25)


def test_choices_are_measured_by_their_worth() -> None:
    choices = [
        Choice(state="s", actions=("a", "b"), values=(1.0, 0.0)),
        Choice(state="t", actions=("a", "b", "c"), values=(-2.0, -1.0, -1.0)),
    ]
    table = ChoiceTable.of(choices, Texts())
    q = torch.tensor([[0.5, 0.25, 9.0], [0.0, -1.0, -1.5]], dtype=torch.float64)
    found = measure(q, table, temperature=0.0, epsilon=0.5)
    assert found["accuracy"] == 0.5
    # Taken: a in s (1), a in t (−2). Best: 1 and −1.
    assert found["value"] == -0.5
    assert found["value_best"] == 0.0
    # ε ½: s: ¾ · 1; t: (½ + 1/6)(−2) + 2/6 · (−1) = −5/3. Mean (0.75 − 1.6667) / 2.
    assert found["value_exploring"] == pytest.approx((0.75 - 5 / 3) / 2)
    # |0.5 − 1|, 0.25 | 2, 0, 0.5, over five candidates.
    assert found["value_error"] == pytest.approx(3.25 / 5)
    assert found["value_error_max"] == 2.0


def test_a_q_network_starts_at_zero_and_sees_likeness() -> None:
    network = QNetwork(QNetworkConfig(rank=4, hidden_size=6), 3, seed=1)
    states, actions = torch.randn(5, 3), torch.randn(5, 2, 3)
    assert torch.equal(network(states, actions), torch.zeros(5, 2))
    same = states[:, None]
    assert torch.equal(network.of_state(states)[:, None], network.of_action(same))


def test_components_of_any_size_are_brought_to_one() -> None:
    network = QNetwork(QNetworkConfig(), 2, seed=0)
    network.state_scale.fit(torch.tensor([[1.0, 7.0], [3.0, 7.0]]))
    # Mean 2 and deviation 1; the second never varies, and is only moved.
    assert network.state_scale(torch.tensor([[4.0, 9.0]])).tolist() == [[2.0, 2.0]]


def test_scales_are_measured_on_different_texts_that_are_there() -> None:
    transitions = [step("s", "a", 1.0), step("s", "b", 1.0, actions=("b", "a", "c"))]
    texts = texts_of(transitions)
    vectors = torch.zeros(len(texts), 1)
    for name, value in (("s", 10.0), ("a", 0.0), ("b", 3.0), ("c", 6.0)):
        vectors[texts.as_read().index(name)] = value
    model = ChoiceModel(FrozenVectors(vectors), QNetwork(QNetworkConfig(), 1, seed=0))
    table = TransitionTable.of(transitions, texts)
    model.fit_scales(table.state, table.actions)
    # a, b, c once each: mean 3, variance (9 + 0 + 9) / 3.
    assert float(model.network.action_scale.mean) == 3.0
    assert float(model.network.action_scale.std) == pytest.approx(math.sqrt(6.0))
    assert float(model.network.state_scale.mean) == 10.0
