"""The watch: each alarm fires on what it is for, and is silent on what is right."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from reward_service.types import Score, Status
from rollout.alarms import Alarm
from rollout.types import Group, Prompt, Trajectory
from rollout.watch import Watch, WatchReport
from rollout.watch_config import WatchConfig

Row = tuple[str, float, dict[str, float]]
"""Completion, value, parts; a completion has as many tokens as letters."""


def group(index: int, rows: Sequence[Row], prompt: str | None = None) -> Group:
    text = prompt or f"prompt {index}"
    trajectories = tuple(
        Trajectory(
            token_ids=(1,) * (1 + len(completion)),
            action_mask=(False,) + (True,) * len(completion),
            logprobs=(0.0,) * (1 + len(completion)),
            finish_reason="stop",
            policy_version_min=0,
            policy_version_max=0,
            completion_text=completion,
        )
        for completion, _, _ in rows
    )
    return Group(
        epoch=0,
        index=index,
        prompt=Prompt(id=str(index), token_ids=(1,), text=text),
        policy_version=0,
        trajectories=trajectories,
        scores=tuple(
            Score(id=f"0/{index}/{n}", status=Status.OK, value=value, parts=parts)
            for n, (_, value, parts) in enumerate(rows)
        ),
    )


Play = Callable[[int], Sequence[Group]]
"""The groups of an update."""


def watched(play: Play, num_updates: int, **settings: Any) -> list[WatchReport]:
    """The reports of a run with a window of 4 and nothing but the named thresholds."""
    off = dict.fromkeys(("trusted_fall", "length_correlation", "duplicates_in_batch", "disagreement"))
    config = WatchConfig(
        **{"window": 4, **off, "correlation_fall": None, "constant_updates": None, **settings}
    )
    watch = Watch(config)
    return [watch.look(play(n), n + 1) for n in range(num_updates)]


def told(reports: Sequence[WatchReport]) -> list[Alarm]:
    return [alarm for report in reports for alarm in report.alarms]


def texts(length: int, index: int) -> str:
    return chr(ord("a") + index % 26) * length


def growing(longer_by: int, pays: float = 1.0, start: int = 10) -> Play:
    """Completions that become longer with every update, paid by their length within the group."""

    def play(n: int) -> list[Group]:
        base = start + longer_by * n
        return [
            group(i, [(texts(base + i + k, i), pays * k, {"m": pays * k}) for k in range(3)])
            for i in range(4)
        ]

    return play


def test_length_that_is_paid_and_grows_is_told_with_the_longest_and_best_paid() -> None:
    reports = watched(growing(2), 4, length_correlation=0.5)
    (alarm,) = told(reports)
    # Mean lengths 12.5, 14.5, 16.5, 18.5: (16.5 + 18.5) / (12.5 + 14.5) = 1.296.
    assert (alarm.name, alarm.version) == ("length_correlation", 4)
    assert alarm.value == pytest.approx(1.0)
    assert "longer" in alarm.message
    assert "+30%" in alarm.message
    assert [len(e.completion) for e in alarm.examples] == [21, 20, 19]
    assert alarm.examples[0].parts == {"m": 2.0}
    assert reports[0].metrics["watch/length_correlation"] == pytest.approx(1.0)


def test_short_answers_that_are_paid_and_come_are_told_too() -> None:
    (alarm,) = told(watched(growing(-2, pays=-1.0, start=18), 4, length_correlation=0.5))
    # Mean lengths 20.5, 18.5, 16.5, 14.5: (16.5 + 14.5) / (20.5 + 18.5) = 0.79.
    assert alarm.value == pytest.approx(-1.0)
    assert "shorter" in alarm.message
    # The shortest, which is paid best.
    assert [len(e.completion) for e in alarm.examples] == [12, 13, 14]


def growing_and_hardly_paid(n: int) -> list[Group]:
    # Centred: (−1, 0, 1) and (−0.43, 0.57, −0.13), so r = 0.3 / (√2 · 0.726) = 0.29.
    paid = enumerate((0.0, 1.0, 0.3))
    return [group(0, [("x" * (10 + 3 * n + k), value, {}) for k, value in paid])]


@pytest.mark.parametrize(
    "play",
    [
        growing_and_hardly_paid,
        growing(0),  # Length is paid, and stays.
        growing(2, pays=-1.0),  # Completions grow although short ones are paid.
        growing(2, pays=0.0),  # They grow, and length is not paid.
    ],
)
def test_length_alone_or_pay_alone_is_no_alarm(play: Play) -> None:
    assert told(watched(play, 9, length_correlation=0.5)) == []


def test_an_alarm_waits_for_a_full_window() -> None:
    assert told(watched(growing(5), 3, length_correlation=0.5)) == []


def same_for_all(n: int) -> list[Group]:
    return [group(i, [("stuck", float(k), {}) for k in range(2)]) for i in range(3)]


def test_the_same_text_for_every_prompt_is_told() -> None:
    reports = watched(same_for_all, 4, duplicates_in_batch=0.9)
    (alarm,) = told(reports)
    assert (alarm.name, alarm.value) == ("duplicates_in_batch", 1.0)
    # One example of each prompt: they show one text each.
    assert [e.prompt for e in alarm.examples] == ["prompt 0", "prompt 1", "prompt 2"]
    assert {e.completion for e in alarm.examples} == {"stuck"}
    assert reports[0].metrics["watch/duplicates_in_batch"] == 1.0


def own_answer(n: int) -> list[Group]:
    """Every prompt has its one right answer, which all samples give."""
    return [group(i, [(f"answer {i}", 1.0, {})] * 2) for i in range(3)]


def test_the_only_right_answer_is_no_collapse_over_prompts_but_a_duplicate_within_the_group() -> None:
    assert told(watched(own_answer, 8, duplicates_in_batch=0.1)) == []
    alarms = told(watched(own_answer, 4, duplicates_in_group=0.9))
    assert [(a.name, a.value) for a in alarms] == [("duplicates_in_group", 1.0)]


def test_different_answers_are_no_duplicates() -> None:
    def play(n: int) -> list[Group]:
        return [group(i, [(f"{i} {k} {n}", float(k), {}) for k in range(2)]) for i in range(3)]

    reports = watched(play, 8, duplicates_in_group=0.1, duplicates_in_batch=0.1)
    assert told(reports) == []
    assert reports[0].metrics["watch/duplicates_in_group"] == 0.0


def two_judges(sign: Callable[[int], float]) -> Play:
    """Judge b says `sign` times what judge a says."""

    def play(n: int) -> list[Group]:
        return [
            group(i, [(f"{i} {k}", float(k), {"a": float(k), "b": sign(n) * k}) for k in range(3)])
            for i in range(3)
        ]

    return play


def test_judges_that_ought_to_agree_and_do_not_are_told() -> None:
    reports = watched(two_judges(lambda n: -1.0), 4, disagreement=0.5, agreeing=("a", "b"))
    (alarm,) = told(reports)
    assert (alarm.name, alarm.subject, alarm.value) == ("disagreement", "a~b", 1.0)
    # The middle one is equally far from the mean for both: the ends show it.
    assert {e.completion[-1] for e in alarm.examples} <= {"0", "2"}
    assert reports[0].metrics["watch/disagreement/a~b"] == 1.0
    assert reports[0].metrics["watch/correlation/a~b"] == pytest.approx(-1.0)


def test_judges_that_agree_or_need_not_are_silent() -> None:
    assert told(watched(two_judges(lambda n: 1.0), 8, disagreement=0.5, agreeing=("a", "b"))) == []
    assert told(watched(two_judges(lambda n: -1.0), 8, disagreement=0.5, agreeing=("a",))) == []


def test_components_that_part_are_told_and_those_that_never_agreed_are_not() -> None:
    parting = two_judges(lambda n: 1.0 if n < 4 else -1.0)
    reports = watched(parting, 6, correlation_fall=0.9)
    (alarm,) = told(reports)
    # The first window is at 1; with two of four opposite the mean is 0: a fall by 1.
    assert (alarm.name, alarm.subject, alarm.version) == ("correlation_fall", "a~b", 6)
    assert alarm.value == pytest.approx(1.0)
    assert told(watched(two_judges(lambda n: -1.0), 12, correlation_fall=0.9)) == []


def test_the_correlation_of_each_component_with_the_reward_is_a_metric() -> None:
    metrics = watched(two_judges(lambda n: -1.0), 1)[0].metrics
    assert metrics["watch/correlation_with_reward/a"] == pytest.approx(1.0)
    assert metrics["watch/correlation_with_reward/b"] == pytest.approx(-1.0)


def rising_and(gold: Callable[[int], float], reward: Callable[[int], float] = float) -> Play:
    """The reward is `reward(n)`; the trusted component is `gold(n)` ± 2: standard deviation 2."""

    def play(n: int) -> list[Group]:
        rows = [(f"{k}", reward(n) + spread, {"gold": gold(n) + spread}) for k, spread in enumerate((-2, 2))]
        return [group(i, rows) for i in range(3)]

    return play


def test_a_trusted_component_that_falls_while_the_reward_rises_is_told() -> None:
    reports = watched(rising_and(lambda n: -2.0 * abs(n - 5)), 10, trusted=("gold",), trusted_fall=0.5)
    (first, *_) = told(reports)
    # n = 3..6 and n = 4..7 have the mean −2 (2 + 0 + 1 + 1) / 4 = −2, n = 5..8 has −3: a fall by 1 / 2.
    assert (first.name, first.subject, first.version) == ("trusted_fall", "gold", 9)
    assert first.value == pytest.approx(0.5)
    assert reports[7].metrics["watch/trusted_fall/gold"] == pytest.approx(0.0)


@pytest.mark.parametrize(
    "play",
    [
        rising_and(float),  # Both rise.
        rising_and(lambda n: -float(n), lambda n: -float(n)),  # Both fall: bad, but not gamed.
        rising_and(lambda n: 0.1 * (n % 2)),  # Noise.
    ],
)
def test_a_trusted_component_that_goes_with_the_reward_is_silent(play: Play) -> None:
    assert told(watched(play, 12, trusted=("gold",), trusted_fall=0.5)) == []


def test_a_component_that_is_not_trusted_may_fall() -> None:
    assert told(watched(rising_and(lambda n: -float(n)), 12, trusted_fall=0.5)) == []


def constant_from(start: int, broken: float = 0.25) -> Play:
    def play(n: int) -> list[Group]:
        values = [broken, broken] if n >= start else [0.0, 1.0]
        return [
            group(i, [(f"{k}", v, {"dead": v, "alive": k}) for k, v in enumerate(values)]) for i in range(2)
        ]

    return play


def test_a_component_with_one_value_for_k_updates_is_told() -> None:
    reports = watched(constant_from(2), 5, constant_updates=3)
    (alarm,) = told(reports)
    assert (alarm.name, alarm.subject, alarm.version, alarm.value) == ("constant_updates", "dead", 5, 3.0)
    assert "0.25" in alarm.message
    assert reports[-1].metrics["watch/constant_updates/dead"] == 3.0
    assert reports[-1].metrics["watch/constant_updates/alive"] == 0.0


def test_one_update_with_variation_starts_the_count_again() -> None:
    def play(n: int) -> Sequence[Group]:
        return constant_from(0 if n % 3 else 99)(n)

    assert told(watched(play, 12, constant_updates=3)) == []


def test_an_alarm_that_goes_on_is_told_again_after_a_window() -> None:
    alarms = told(watched(same_for_all, 13, duplicates_in_batch=0.9))
    assert [a.version for a in alarms] == [4, 8, 12]


def test_alarms_are_counted() -> None:
    reports = watched(same_for_all, 8, duplicates_in_batch=0.9)
    assert [r.metrics["watch/alarms_total"] for r in reports] == [0, 0, 0, 1, 1, 1, 1, 2]


def test_a_number_that_is_no_longer_defined_is_not_judged_by_its_past() -> None:
    def play(n: int) -> Sequence[Group]:
        solved = [group(0, [("x", 1.0, {"a": 1.0, "b": 1.0}), ("y", 1.0, {"a": 1.0, "b": 1.0})])]
        return two_judges(lambda n: -1.0)(n) if n < 4 else solved

    reports = watched(play, 20, disagreement=0.5, agreeing=("a", "b"))
    assert [a.version for a in told(reports)] == [4]
    assert "watch/disagreement/a~b" not in reports[-1].metrics


def test_long_texts_are_cut_and_few_examples_told() -> None:
    (alarm,) = told(watched(growing(9), 4, length_correlation=0.5, num_examples=2, num_characters=5))
    assert [len(e.completion) for e in alarm.examples] == [6, 6]
    assert alarm.examples[0].completion.endswith("…")


def test_a_sample_that_lacks_a_component_and_notes_of_a_denoiser_do_no_harm() -> None:
    def play(n: int) -> list[Group]:
        rows = [
            ("x", 0.0, {"a": 0.0, "quality/sigma": 1.0}),
            ("y", 1.0, {"a": 1.0, "b": 0.5, "quality/sigma": 1.0}),
        ]
        return [group(0, rows), group(1, rows[:1])]

    metrics = watched(play, 5, constant_updates=2)[-1].metrics
    assert metrics["watch/correlation_with_reward/a"] == pytest.approx(1.0)
    assert "watch/constant_updates/quality/sigma" not in metrics
    assert metrics["watch/constant_updates/b"] == 5.0


def eventful(n: int) -> list[Group]:
    """Judges that part, a trusted component that falls, one that dies, and the same text everywhere."""
    sign, gold = (1.0 if n < 5 else -1.0), -2.0 * abs(n - 5)
    rows = [
        (
            "stuck",
            n + spread,
            {"a": spread, "b": sign * spread, "gold": gold + spread, "dead": spread * (n < 7)},
        )
        for spread in (-2.0, 2.0)
    ]
    return [group(i, rows) for i in range(2)]


def test_a_watch_goes_on_after_a_resume_as_if_never_stopped() -> None:
    config = WatchConfig(window=4, trusted=("gold",), constant_updates=3)

    def run(resume_at: int | None) -> list[WatchReport]:
        watch, reports = Watch(config), []
        for n in range(16):
            if n == resume_at:
                state = json.loads(json.dumps(watch.state_dict()))
                watch = Watch(config)
                watch.load_state_dict(state)
            reports.append(watch.look(eventful(n), n + 1))
        return reports

    whole = run(None)
    names = {"correlation_fall", "trusted_fall", "constant_updates", "duplicates_in_batch"}
    assert {a.name for a in told(whole)} == names
    for resume_at in range(1, 16):
        assert run(resume_at) == whole


def test_without_groups_there_is_nothing_to_look_at() -> None:
    with pytest.raises(ValueError, match="no groups"):
        Watch(WatchConfig()).look([], 1)


def test_the_order_in_which_groups_come_changes_no_digit() -> None:
    """Actors come and go, and with them the order. Mutation: look at the groups as they come."""
    draw = random.Random(0)
    groups = [
        group(
            i, [(f"{i}{n}" * n, draw.random(), {"a": draw.random(), "b": draw.random()}) for n in range(1, 5)]
        )
        for i in range(12)
    ]
    reports = []
    for _ in range(8):
        draw.shuffle(groups)
        reports.append(watched(lambda _: tuple(groups), 2))
    assert all(report == reports[0] for report in reports)
