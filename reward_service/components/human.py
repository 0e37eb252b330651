"""What people say of a completion: on the page of the service, or in a file.

A completion that nobody has judged yet is put before the raters and waited for. Without a judgement in time
its status is timeout, never a number.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from antiphon.privacy import Masker, PrivacyConfig, build_masker
from antiphon.settings import Settings
from reward_service.ratings.files import Judgements, read_judgements
from reward_service.ratings.items import Comparison, Item, Mode
from reward_service.ratings.store import RatingStore
from reward_service.ratings.strengths import win_shares
from reward_service.reward import InvalidInput, Placement, Reward
from reward_service.types import Sample, Score, Status


class Human(Reward):
    """The mean rating of a completion, or how it does in comparisons with others of its prompt (0 to 1)."""

    name = "human"
    placement: ClassVar[Placement] = "own"
    is_concurrent = True
    waits_for_people = True

    class Config(Settings):
        path: Path | None = None
        """The SQLite file that the page writes to, made if it is not there. On one machine with the page, and
        not on a network file system."""
        file: Path | None = None
        """Judgements given before, as JSON lines (docs/ratings.md). Alone: what it lacks is invalid input."""
        mode: Mode = "rate"
        """rate: a scale, mean over raters. compare: two completions of one prompt beside each other; people
        agree more on it, but it needs several samples of each prompt, and is relative to them."""
        question: str = Field("How good is this answer?", min_length=1, max_length=500)
        """What raters read above the completion. Judgements belong to the question they answer."""
        num_points: int = Field(5, ge=2, le=9)
        """Points of the scale; the lowest is score 0, the highest 1."""
        num_judgements: int = Field(1, ge=1)
        """Ratings, or comparisons, that a completion needs before it has a score. More: less noise, more
        work."""
        wait_s: float = Field(30.0, ge=0.0)
        """How long one call waits for raters. Keep it below reward.deadline_s, and raise both where people
        judge while a run goes on."""
        poll_s: float = Field(0.5, gt=0.0)
        """How often it looks for new judgements meanwhile."""
        privacy: PrivacyConfig = PrivacyConfig()
        """What raters do not see and the database does not hold; the recipe's own section `privacy`."""

        @model_validator(mode="after")
        def _has_a_source(self) -> Self:
            if self.path is None and self.file is None:
                raise ValueError("set path (of the page's database), file (of given judgements), or both")
            return self

    config: Config

    def __init__(
        self,
        config: Config,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(config)
        self.is_comparative = config.mode == "compare"
        self._clock = clock
        self._sleep = sleep

    def start(self) -> None:
        """Opens the database and reads the file.

        Raises:
            UserError: one of them cannot be read, or a kind of personal data is unknown.
        """
        _ = self._masker, self._store, self._given

    def score_one(self, sample: Sample) -> float:
        (score,) = self.score([sample])
        if score.value is None:
            failure = InvalidInput if score.status is Status.INVALID_INPUT else TimeoutError
            raise failure(score.message)
        return score.value

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """Asks for what is not judged yet, and waits until all is, at most `wait_s`."""
        start_s = self._clock()
        values = self._judged(samples)
        unknown = [s for s in samples if s.id not in values]
        if unknown and self._store is not None:
            self._store.ask([self._item(s) for s in unknown])
            values |= self._wait_for(unknown, start_s + self.config.wait_s)
        latency_s = self._clock() - start_s
        return [self._verdict(s.id, values.get(s.id), latency_s) for s in samples]

    def _wait_for(self, samples: Sequence[Sample], deadline: float) -> dict[str, float]:
        """What is known of the samples when all are judged, or at the deadline."""
        while len(values := self._judged(samples)) < len(samples) and self._clock() < deadline:
            self._sleep(min(self.config.poll_s, max(0.0, deadline - self._clock())))
        return values

    def _verdict(self, sample_id: str, value: float | None, latency_s: float) -> Score:
        if value is not None:
            return Score(id=sample_id, status=Status.OK, value=value, latency_s=latency_s)
        if self._store is None:
            return Score(
                id=sample_id, status=Status.INVALID_INPUT, message=f"not judged in {self.config.file}"
            )
        message = f"not rated yet: waited {latency_s:.1f} s for raters"
        return Score(id=sample_id, status=Status.TIMEOUT, latency_s=latency_s, message=message)

    def _judged(self, samples: Sequence[Sample]) -> dict[str, float]:
        """The score of every sample that has enough judgements, by its id."""
        items = {s.id: self._item(s) for s in samples}
        judge = self._from_ratings if self.config.mode == "rate" else self._from_comparisons
        scores = judge(list(items.values()))
        return {sample_id: scores[i.id] for sample_id, i in items.items() if i.id in scores}

    def _from_ratings(self, items: Sequence[Item]) -> dict[str, float]:
        """The mean rating of each item that has enough, by its id."""
        asked = self._store.ratings([i.id for i in items]) if self._store else {}
        both = {i.id: [*self._given.ratings.get(i.id, ()), *asked.get(i.id, ())] for i in items}
        return {i: fmean(values) for i, values in both.items() if len(values) >= self.config.num_judgements}

    def _from_comparisons(self, items: Sequence[Item]) -> dict[str, float]:
        """How probably each item that was compared enough beats an average one, by its id."""
        contexts = list(dict.fromkeys(i.context for i in items))
        asked = self._store.comparisons(contexts) if self._store else {}
        scores: dict[str, float] = {}
        for context in contexts:
            both = [*self._given.comparisons.get(context, ()), *asked.get(context, ())]
            scores |= shares_of(both, self.config.num_judgements)
        return scores

    def _item(self, sample: Sample) -> Item:
        return Item(
            mode=self.config.mode,
            question=self.config.question,
            prompt=self._masker.text(sample.prompt),
            completion=self._masker.tail(sample.prompt, sample.completion),
            num_points=self.config.num_points,
            num_wanted=self.config.num_judgements,
        )

    @cached_property
    def _masker(self) -> Masker:
        return build_masker(self.config.privacy)

    @cached_property
    def _store(self) -> RatingStore | None:
        return None if self.config.path is None else RatingStore(self.config.path)

    @cached_property
    def _given(self) -> Judgements:
        if self.config.file is None:
            return Judgements(ratings={}, comparisons={})
        return read_judgements(self.config.file, self.config.question, self._masker)


def shares_of(comparisons: Sequence[Comparison], num_needed: int) -> dict[str, float]:
    """The Bradley-Terry score of every item of one context that stands in enough comparisons, by its id."""
    num_met = Counter(i for c in comparisons for i in (c.item, c.other))
    places = {item: place for place, item in enumerate(sorted(num_met))}
    wins = np.zeros((len(places), len(places)))
    for c in comparisons:
        wins[places[c.item], places[c.other]] += c.value
        wins[places[c.other], places[c.item]] += 1.0 - c.value
    shares = win_shares(wins)
    return {item: float(shares[places[item]]) for item, n in num_met.items() if n >= num_needed}
