import json
import math
from dataclasses import asdict, replace

import pytest

from antiphon.errors import UserError
from antiphon.schedules import ScheduleConfig
from antiphon.settings import parse
from rollout.config import RolloutConfig
from rollout.entropy import EntropyConfig, EntropyController, mean_entropy
from rollout.exploration import ExplorationConfig, Explorer
from rollout.reports import GroupSummary, parse_summary
from rollout.types import Sampling
from tests.fakes import make_group


def summaries(entropy: float, num_tokens: tuple[int, ...] = (3, 3)) -> list[GroupSummary]:
    """One group whose tokens were drawn with this entropy."""
    return [replace(GroupSummary.of(make_group([0.0, 1.0])), entropy=entropy, num_tokens=num_tokens)]


def test_schedules_are_read_at_the_version_of_the_task() -> None:
    explorer = Explorer(
        Sampling(temperature=0.8, top_k=7, beta=1.5),
        ExplorationConfig(
            temperature=ScheduleConfig(start=2.0, end=1.0, num_updates=10),
            epsilon=ScheduleConfig(kind="two_phase", start=0.2, end=0.0, num_updates=4),
        ),
    )
    # First explore, then exploit: ε jumps at version 4; the temperature is half-way at 5. The rest stays.
    drawn = [explorer.sampling(version) for version in (0, 3, 4, 5, 99)]
    assert [s.epsilon for s in drawn] == [0.2, 0.2, 0.0, 0.0, 0.0]
    assert [s.temperature for s in drawn] == pytest.approx([2.0, 1.7, 1.6, 1.5, 1.0])
    assert {(s.top_k, s.beta) for s in drawn} == {(7, 1.5)}
    assert explorer.metrics(3) == pytest.approx(
        {"rollout/temperature": 1.7, "rollout/epsilon": 0.2, "rollout/beta": 1.5}
    )


def test_without_exploration_the_sampling_is_that_of_the_recipe_and_nothing_is_told() -> None:
    sampling = Sampling(temperature=0.8, beta=2.0)
    explorer = Explorer(sampling, ExplorationConfig())
    assert explorer.sampling(5) is sampling
    assert explorer.metrics(5) == {}
    explorer.observe(0, summaries(1.0))
    assert explorer.state_dict() == {}


def test_the_temperature_rises_when_entropy_is_below_its_target_and_falls_above() -> None:
    controller = EntropyController(EntropyConfig(target=2.0, rate=0.5), 1.0)
    # (2 − 1) / 2 = 0.5: exp(0.25). Then (2 − 3) / 2 = −0.5: back to 1. Then 0: stays.
    controller.observe(0, 1.0)
    assert controller.temperature(1) == pytest.approx(math.exp(0.25))
    controller.observe(1, 3.0)
    assert controller.temperature(2) == pytest.approx(1.0)
    controller.observe(2, 2.0)
    assert controller.temperature(3) == pytest.approx(1.0)


def test_one_step_is_bounded_and_so_is_the_temperature() -> None:
    config = EntropyConfig(target=1.0, rate=0.5, min_temperature=0.5, max_temperature=1.9)
    controller = EntropyController(config, 1.0)
    # An error of −99 counts as −1: exp(−0.5) = 0.607; once more would be 0.368, which is below 0.5.
    controller.observe(0, 100.0)
    assert controller.temperature(1) == pytest.approx(math.exp(-0.5))
    controller.observe(1, 100.0)
    assert controller.temperature(2) == 0.5
    for version in range(2, 9):
        controller.observe(version, 0.0)
    assert controller.temperature(9) == 1.9


def test_it_finds_the_temperature_at_which_the_entropy_is_on_target() -> None:
    """A policy whose entropy is 1.3 T."""
    controller = EntropyController(EntropyConfig(target=0.9, rate=0.3), 1.0)
    for version in range(60):
        controller.observe(version, 1.3 * controller.temperature(version))
    assert controller.temperature(60) == pytest.approx(0.9 / 1.3, rel=1e-3)


def test_tasks_between_an_update_and_its_publication_draw_like_the_others_of_their_version() -> None:
    explorer = Explorer(Sampling(), ExplorationConfig(target_entropy=EntropyConfig(target=2.0)))
    explorer.observe(0, summaries(1.0))
    assert explorer.sampling(0).temperature == 1.0
    assert explorer.sampling(1).temperature == pytest.approx(math.exp(0.05))
    # An update without fresh groups tells nothing; its version draws like the one before.
    explorer.observe(1, [])
    assert explorer.sampling(2).temperature == explorer.sampling(1).temperature


def test_the_entropy_of_a_batch_weighs_every_token_the_same() -> None:
    # 2 groups: 4 tokens of 1 nat, 12 tokens of 2 nats: 28 / 16.
    groups = summaries(1.0, num_tokens=(2, 2)) + summaries(2.0, num_tokens=(6, 6))
    assert mean_entropy(groups) == pytest.approx(28 / 16)


def test_a_summary_tells_the_entropy_of_its_drawn_tokens_and_keeps_it_on_the_way_through_json() -> None:
    # Each trajectory: a prompt of two tokens (0.0), and two drawn ones of −1.0.
    summary = GroupSummary.of(make_group([0.0, 1.0]))
    assert summary.entropy == 1.0
    record = json.loads(json.dumps(asdict(summary)))
    assert parse_summary(record) == summary


def test_control_goes_on_from_its_state_exactly() -> None:
    config = ExplorationConfig(temperature=1.2, target_entropy=EntropyConfig(target=2.0, rate=0.3))
    whole, half = Explorer(Sampling(), config), Explorer(Sampling(), config)
    assert whole.sampling(0).temperature == 1.2
    entropies = [1.0, 1.4, 1.9, 2.3]
    for version, entropy in enumerate(entropies):
        whole.observe(version, summaries(entropy))
    for version in (0, 1):
        half.observe(version, summaries(entropies[version]))
    resumed = Explorer(Sampling(), config)
    resumed.load_state_dict(json.loads(json.dumps(half.state_dict())))
    assert resumed.sampling(1) == half.sampling(1)
    for version in (2, 3):
        resumed.observe(version, summaries(entropies[version]))
    assert resumed.sampling(4) == whole.sampling(4)
    assert resumed.state_dict() == whole.state_dict()


def test_once_settled_completions_are_drawn_with_the_last_beta_and_without_epsilon() -> None:
    section = {
        "sampling": {"temperature": 0.7, "epsilon": 0.1, "beta": 1.0},
        "exploration": {"temperature": 2.0, "beta": {"start": 0.0, "end": 4.0, "num_updates": 9}},
    }
    settled = parse(RolloutConfig, section).settled
    assert (settled.temperature, settled.beta, settled.epsilon) == (0.7, 4.0, 0.0)
    plain = parse(RolloutConfig, {"sampling": {"beta": 1.0}}).settled
    assert plain == Sampling(beta=1.0)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"epsilon": {"start": 0.2, "end": 1.5, "num_updates": 3}}, "epsilon goes from 0.2 to 1.5"),
        ({"temperature": -1.0}, "temperature goes from -1.0"),
        ({"beta": {"start": 1.0, "end": -1.0, "num_updates": 3}}, "beta goes from -1.0 to 1.0"),
        (
            {"temperature": {"start": 1.0, "end": 0.5, "num_updates": 3}, "target_entropy": {"target": 1.0}},
            "give it no schedule",
        ),
        ({"target_entropy": {"target": 1.0, "min_temperature": 3.0}}, "is not below"),
        ({"temperature": 5.0, "target_entropy": {"target": 1.0}}, "temperature 5.0 is outside of 0.1 … 2.0"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_name(section: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse(RolloutConfig, {"exploration": section})
