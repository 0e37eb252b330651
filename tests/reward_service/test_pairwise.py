"""The component `pairwise`: groups, both orders, undecided pairs, and what is reported of the judge."""

import random
from typing import Any

import pytest

from antiphon.errors import UserError
from reward_service.building import build_reward
from reward_service.types import Sample, Status, Usage
from tests.reward_service.fakes_judges import answers_in, judge_of
from tests.reward_service.fakes_rewards import sample


def group(*completions: str, name: str = "0/1", **fields: Any) -> list[Sample]:
    return [sample(c, id=f"{name}/{i}", group=name, **fields) for i, c in enumerate(completions)]


def values(kind: str, samples: list[Sample], **options: Any) -> list[float | None]:
    return [score.value for score in judge_of("pairwise", kind, **options).score(samples)]


def test_a_completion_scores_the_share_of_its_comparisons_that_it_wins() -> None:
    assert values("Larger", group("3", "1", "2")) == [1.0, 0.0, 0.5]


def test_a_tie_is_half_a_win() -> None:
    # 3 beats 1 and ties with 3.0: (1 + 0.5) / 2.
    assert values("Larger", group("3", "1", "3.0")) == [0.75, 0.0, 0.75]


def test_every_pair_is_shown_in_both_orders() -> None:
    judge = judge_of("pairwise", "Larger")
    judge.score(group("1", "2", "3"))
    shown = [tuple(answers_in(q.user)) for q in judge.backend.asked]  # type: ignore[attr-defined]
    assert len(shown) == len(set(shown)) == 6
    assert {(b, a) for a, b in shown} == set(shown)


def test_a_judge_who_sees_only_the_order_changes_nothing_and_is_reported() -> None:
    judge = judge_of("pairwise", "First")
    assert [s.value for s in judge.score(group("a", "b", "c"))] == [0.5, 0.5, 0.5]
    report = judge.stats()
    assert (report["pairs_total"], report["flip_share"], report["first_wins_share"]) == (3.0, 1.0, 1.0)


def test_a_fair_judge_is_reported_as_fair() -> None:
    judge = judge_of("pairwise", "Larger")
    judge.score(group("1", "2", "3"))
    report = judge.stats()
    assert (report["pairs_total"], report["flip_share"], report["first_wins_share"]) == (3.0, 0.0, 0.5)


def test_scores_do_not_depend_on_the_order_of_the_samples() -> None:
    samples = group(*map(str, range(9)))
    judge = judge_of("pairwise", "Larger", max_opponents=4)
    expected = {s.id: s.value for s in judge.score(samples)}
    shuffled = random.Random(0).sample(samples, len(samples))
    assert {s.id: s.value for s in judge.score(shuffled)} == expected


def test_in_a_large_group_each_meets_a_bounded_number_of_others() -> None:
    judge = judge_of("pairwise", "Larger", max_opponents=4)
    samples = group(*map(str, range(12)))
    scores = judge.score(samples)
    # 12 * 4 / 2 pairs in two orders.
    assert len(judge.backend.asked) == 48  # type: ignore[attr-defined]
    assert scores[0].value == 0.0
    assert scores[11].value == 1.0


def test_groups_are_apart_and_so_are_judgements_and_prompts() -> None:
    samples = [
        *group("1", "2", name="a"),
        *group("8", "9", name="b"),
        *[sample(c, id=f"again {c}", group="a", repeat=1) for c in ("1", "2")],
        *[sample(c, id=f"other {c}", group="a", prompt="another run's") for c in ("1", "2")],
    ]
    judge = judge_of("pairwise", "Larger", temperature=1.0)
    scores = judge.score(samples[::2] + samples[1::2])
    assert [s.value for s in scores] == [0.0] * 4 + [1.0] * 4
    assert len(judge.backend.asked) == 8  # type: ignore[attr-defined]


def test_copies_are_one_player_with_one_score_and_one_bill() -> None:
    judge = judge_of("pairwise", "Larger")
    scores = judge.score(group("2", "1", "2", "2"))
    assert [s.value for s in scores] == [1.0, 0.0, 1.0, 1.0]
    assert len(judge.backend.asked) == 2  # type: ignore[attr-defined]
    assert sum((s.usage for s in scores), Usage()) == Usage(num_requests=2, num_tokens=10)


def test_the_bill_is_the_sum_of_all_questions_however_it_is_split() -> None:
    scores = judge_of("pairwise", "Larger").score(group("1", "2", "3"))
    # Three pairs in two orders, 5 tokens each; each pays for the questions that show it first.
    assert [s.usage for s in scores] == [Usage(num_requests=2, num_tokens=10)] * 3


def test_a_group_of_copies_is_all_ties_and_asks_nobody() -> None:
    judge = judge_of("pairwise", "Larger")
    assert [s.value for s in judge.score(group("5", "5"))] == [0.5, 0.5]
    assert judge.backend.asked == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["", "0/1"])
def test_who_is_alone_cannot_be_compared(name: str) -> None:
    (score,) = judge_of("pairwise", "Larger").score([sample("1", group=name)])
    assert score.status is Status.INVALID_INPUT
    assert "opponents: reference" in score.message


def test_samples_without_a_group_are_each_alone() -> None:
    scores = judge_of("pairwise", "Larger").score([sample("1", id="a"), sample("2", id="b")])
    assert [s.status for s in scores] == [Status.INVALID_INPUT] * 2


def test_an_undecided_pair_does_not_count_while_enough_others_do() -> None:
    # "error" spoils its own two pairs; of the others each keeps one of two: half.
    judge = judge_of("pairwise", "Broken")
    scores = judge.score(group("a", "b", "error"))
    # Broken always prefers A: of a and b each wins in one order.
    assert [s.value for s in scores] == [0.5, 0.5, None]
    assert scores[2].status is Status.ERROR
    assert scores[2].message == "0 of 2 comparisons were decided: no luck: error"


def test_below_the_wanted_share_of_decided_comparisons_there_is_no_score() -> None:
    scores = judge_of("pairwise", "Broken", min_decided_share=0.6).score(group("a", "b", "timeout"))
    assert [s.status for s in scores] == [Status.TIMEOUT] * 3


def test_a_pair_decided_in_one_order_only_does_not_count() -> None:
    # Parrot replies what the first answer says; only one order gives a verdict.
    scores = judge_of("pairwise", "Parrot").score(group("Better: A", "nonsense"))
    assert [s.status for s in scores] == [Status.UNPARSEABLE] * 2
    assert [s.usage.num_requests for s in scores] == [1, 1]


def test_against_the_reference_a_lone_sample_has_a_score() -> None:
    samples = [sample(c, id=c, reference="5") for c in ("7", "3", "5")]
    judge = judge_of("pairwise", "Larger", opponents="reference")
    scores = judge.score([*samples, sample("1", id="none")])
    # The reference itself is as good as the reference.
    assert [s.value for s in scores] == [1.0, 0.0, 0.5, None]
    assert scores[3].status is Status.INVALID_INPUT
    assert scores[0].usage == Usage(num_requests=2, num_tokens=10)


def test_shares_of_the_letters_make_a_finer_win_share() -> None:
    # Weigher reads the first text: 0.6 to 0.2 for a, 0.1 to 0.3 for b.
    # a first: 0.75 for a; b first: 0.25 for b; a wins (0.75 + 0.75) / 2.
    scores = judge_of("pairwise", "Weigher", answer="expected").score(group("0.6 0.2", "0.1 0.3"))
    assert [s.value for s in scores] == [pytest.approx(0.75), pytest.approx(0.25)]


def test_who_is_longer_than_its_opponents_pays() -> None:
    judge = judge_of("pairwise", "First", length_slope=0.2)
    scores = judge.score(group("a b c", "d"))
    # 0.5 - 0.2 ln(4 / 2) = 0.3614 for three words against one; being shorter earns nothing.
    assert [s.value for s in scores] == [pytest.approx(0.3614, abs=1e-4), 0.5]
    assert [s.parts for s in scores] == [{"raw": 0.5}] * 2


def test_an_estimate_covers_all_opponents_in_both_orders() -> None:
    one = judge_of("pairwise", "Larger", opponents="reference").estimate(sample("1", reference="22"))
    judge = judge_of("pairwise", "Larger", max_opponents=6)
    assert one.num_requests == 2
    assert judge.estimate(sample("1")).num_requests == 6
    assert judge_of("pairwise", "Larger", opponents="reference").estimate(sample("1")) == Usage()


def test_it_says_whether_scores_depend_on_neighbours() -> None:
    assert judge_of("pairwise", "Larger").is_comparative
    assert not judge_of("pairwise", "Larger", opponents="reference").is_comparative


def test_an_uneven_number_of_opponents_is_a_mistake() -> None:
    options = {"backend": {"name": "scripted", "replies": ["a"]}, "max_opponents": 3}
    with pytest.raises(UserError, match="even"):
        build_reward("pairwise", options, "reward.components.0")
