"""The component `human`: asks, waits, and never makes a number of what nobody said."""

from pathlib import Path
from typing import Any

import pytest

from antiphon.errors import UserError
from antiphon.privacy import PrivacyConfig
from reward_service.building import build_reward
from reward_service.components.human import Human
from reward_service.ratings.items import Comparison
from reward_service.ratings.store import RatingStore
from reward_service.reward import InvalidInput
from reward_service.types import Sample, Status
from tests.reward_service.fakes_rewards import sample

HUMAN = "reward_service.components.human:Human"


class Clock:
    """Time passes only while somebody sleeps; `then` happens during the next sleep."""

    def __init__(self) -> None:
        self.now = 0.0
        self.then: list[Any] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.then:
            self.then.pop(0)()


def human(clock: Clock | None = None, **options: Any) -> Human:
    config = Human.Config(**options)
    clock = clock or Clock()
    return Human(config, clock=lambda: clock.now, sleep=clock.sleep)


@pytest.fixture
def store(tmp_path: Path) -> RatingStore:
    return RatingStore(tmp_path / "ratings.sqlite")


def rate_next(store: RatingStore, value: float, rater: str = "Ann") -> None:
    store.rate(rater, store.next(rater).items[0].id, value)


def compare(store: RatingStore, winner: str, rater: str = "Ann") -> None:
    """The rater prefers the completion called `winner` in what he is shown."""
    first, second = store.next(rater).items
    store.compare(rater, Comparison(item=first.id, other=second.id, value=float(first.completion == winner)))


def samples(*completions: str, prompt: str = "p") -> list[Sample]:
    return [sample(c, id=f"{prompt}/{c}", prompt=prompt) for c in completions]


def test_raters_see_no_personal_data_and_none_are_kept(store: RatingStore, tmp_path: Path) -> None:
    """Mutation: an item of the texts as they are puts both addresses into the database."""
    privacy = PrivacyConfig(mask=("email",))
    asked = [sample("ask me@there.org", id="a", prompt="to a@b.org:")]
    human(path=store.path, wait_s=0.0, privacy=privacy).score(asked)
    shown = store.next("Ann")
    assert (shown.prompt, shown.items[0].completion) == ("to [email]:", "ask [email]")
    kept = b"".join(path.read_bytes() for path in store.path.parent.glob("ratings.sqlite*"))
    assert b"ask [email]" in kept
    assert b"there.org" not in kept
    rate_next(store, 0.75)
    (score,) = human(path=store.path, wait_s=0.0, privacy=privacy).score(asked)
    assert score.value == 0.75


def test_judgements_in_a_file_are_of_the_texts_as_they_are_masked(tmp_path: Path) -> None:
    """Given before the run, of texts with addresses; or exported by the page, without them."""
    file = tmp_path / "given.jsonl"
    file.write_text(
        '{"prompt": "to a@b.org:", "completion": "ask me@there.org", "value": 0.25}\n'
        '{"prompt": "to [email]:", "completion": "ask [email]", "value": 0.75}\n'
    )
    rated = human(file=file, num_judgements=2, privacy=PrivacyConfig(mask=("email",)))
    (score,) = rated.score([sample("ask me@there.org", id="a", prompt="to a@b.org:")])
    assert score.value == 0.5


def test_what_nobody_rated_is_a_timeout_after_the_wait_and_not_a_number(store: RatingStore) -> None:
    clock = Clock()
    (score,) = human(clock, path=store.path, wait_s=3.0, poll_s=2.0).score(samples("a"))
    assert (score.status, score.value) == (Status.TIMEOUT, None)
    assert "not rated yet" in score.message
    assert clock.now == 3.0
    assert [s.completion for s in store.next("Ann").items] == ["a"]


def test_a_rating_that_comes_while_it_waits_is_the_score(store: RatingStore) -> None:
    clock = Clock()
    clock.then = [lambda: None, lambda: rate_next(store, 0.75)]
    (score,) = human(clock, path=store.path, wait_s=60.0, poll_s=2.0).score(samples("a"))
    assert (score.status, score.value, score.latency_s) == (Status.OK, 0.75, 4.0)


def test_who_is_rated_does_not_wait_for_who_is_not_beyond_the_deadline(store: RatingStore) -> None:
    clock = Clock()
    clock.then = [lambda: rate_next(store, 1.0)]
    scores = human(clock, path=store.path, wait_s=2.0, poll_s=0.5).score(samples("a", "b"))
    assert [(s.id, s.status, s.value) for s in scores] == [
        ("p/a", Status.OK, 1.0),
        ("p/b", Status.TIMEOUT, None),
    ]


def test_what_is_rated_already_is_not_waited_for_and_not_asked_again(store: RatingStore) -> None:
    first = human(path=store.path, wait_s=0.0)
    first.score(samples("a"))
    rate_next(store, 0.5)
    clock = Clock()
    again = human(clock, path=store.path, wait_s=9.0).score(samples("a"))
    assert (again[0].value, clock.now) == (0.5, 0.0)
    assert store.next("Bob").kind == "nothing"


def test_what_a_file_knows_is_not_asked_of_people(tmp_path: Path, store: RatingStore) -> None:
    path = tmp_path / "given.jsonl"
    path.write_text('{"prompt": "p", "completion": "a", "value": 1}\n')
    human(file=path, path=store.path, wait_s=0.0).score(samples("a", "b"))
    assert store.next("Ann").num_waiting == 1
    assert [s.completion for s in store.next("Ann").items] == ["b"]


def test_the_score_is_the_mean_of_the_raters_once_there_are_enough(store: RatingStore) -> None:
    judge = human(path=store.path, num_judgements=2, wait_s=0.0)
    judge.score(samples("a"))
    rate_next(store, 1.0, "Ann")
    assert judge.score(samples("a"))[0].status is Status.TIMEOUT
    rate_next(store, 0.25, "Bob")
    assert judge.score(samples("a"))[0].value == 0.625


def test_two_samples_with_the_same_text_have_the_same_score(store: RatingStore) -> None:
    clock = Clock()
    clock.then = [lambda: rate_next(store, 0.25)]
    twins = [sample("a", id="1"), sample("a", id="2")]
    scores = human(clock, path=store.path, wait_s=9.0).score(twins)
    assert [(s.id, s.value) for s in scores] == [("1", 0.25), ("2", 0.25)]


def test_another_question_is_another_judgement(store: RatingStore) -> None:
    human(path=store.path, wait_s=0.0, question="Polite?").score(samples("a"))
    rate_next(store, 1.0)
    assert human(path=store.path, wait_s=0.0, question="Right?").score(samples("a"))[0].value is None
    assert human(path=store.path, wait_s=0.0, question="Polite?").score(samples("a"))[0].value == 1.0


def test_comparisons_become_win_shares_within_the_prompt(store: RatingStore) -> None:
    judge = human(path=store.path, mode="compare", wait_s=0.0)
    judge.score([*samples("good", "bad"), *samples("x", "y", prompt="q")])
    compare(store, "good", "Ann")
    scores = {s.id: s for s in judge.score([*samples("good", "bad"), *samples("x", prompt="q")])}
    # One win: o and 1/o with 1/(1 + o²) = (o − 1)/(2 (o + 1)), so o = 2.1304 and o/(1 + o) = 0.68055.
    assert scores["p/good"].value == pytest.approx(0.68055, abs=1e-5)
    assert scores["p/bad"].value == pytest.approx(1 - 0.68055, abs=1e-5)
    assert scores["q/x"].status is Status.TIMEOUT


def test_a_completion_that_met_too_few_has_no_score_yet(store: RatingStore) -> None:
    judge = human(path=store.path, mode="compare", num_judgements=2, wait_s=0.0)
    judge.score(samples("a", "b", "c"))
    compare(store, "a")
    compare(store, "a")
    scores = {s.id: s.status for s in judge.score(samples("a", "b", "c"))}
    assert scores == {"p/a": Status.OK, "p/b": Status.TIMEOUT, "p/c": Status.TIMEOUT}


def test_ratings_from_a_file_are_scores_and_what_it_lacks_is_invalid_input(tmp_path: Path) -> None:
    path = tmp_path / "given.jsonl"
    path.write_text(
        '{"prompt": "p", "completion": "a", "value": 1, "note": "mine"}\n\n'
        '{"prompt": "p", "completion": "a", "value": 0.5}\n'
        '{"prompt": "p", "completion": "b", "value": 0, "question": "Another?"}\n'
    )
    clock = Clock()
    scores = human(clock, file=path, wait_s=9.0).score(samples("a", "b"))
    assert [(s.status, s.value) for s in scores] == [(Status.OK, 0.75), (Status.INVALID_INPUT, None)]
    assert clock.now == 0.0


def test_file_and_page_count_together(tmp_path: Path, store: RatingStore) -> None:
    path = tmp_path / "given.jsonl"
    path.write_text(
        '{"prompt": "p", "completion": "a", "value": 1}\n'
        '{"kind": "comparison", "prompt": "p", "completion": "a", "other": "b", "value": 1}\n'
    )
    judge = human(file=path, path=store.path, num_judgements=2, wait_s=0.0)
    judge.score(samples("a"))
    rate_next(store, 0.5)
    assert judge.score(samples("a"))[0].value == 0.75
    judge = human(file=path, path=store.path, mode="compare", wait_s=0.0)
    assert judge.score(samples("a"))[0].value == pytest.approx(0.68055, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "no JSON"),
        ("[1]", "no JSON object"),
        ('{"prompt": "p", "completion": "a", "value": 7}', "less than or equal to 1"),
        ('{"prompt": "p", "value": 1}', "completion is missing"),
    ],
)
def test_a_line_that_is_no_judgement_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "given.jsonl"
    path.write_text("\n" + text + "\n")
    with pytest.raises(UserError, match=rf"given\.jsonl:2.*{says}"):
        human(file=path).start()


def test_a_file_that_is_not_there_is_a_persons_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        human(file=tmp_path / "no.jsonl").start()


def test_one_sample_alone_raises_what_its_status_says(tmp_path: Path, store: RatingStore) -> None:
    path = tmp_path / "given.jsonl"
    path.write_text('{"prompt": "p", "completion": "a", "value": 1}\n')
    assert human(file=path).score_one(sample("a")) == 1.0
    with pytest.raises(InvalidInput):
        human(file=path).score_one(sample("b"))
    with pytest.raises(TimeoutError):
        human(path=store.path, wait_s=0.0).score_one(sample("b"))


def test_a_recipe_must_say_where_judgements_come_from_and_checking_it_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="set path"):
        build_reward(HUMAN, {}, "here")
    build_reward(HUMAN, {"path": str(tmp_path / "r.sqlite")}, "here")
    assert list(tmp_path.iterdir()) == []
