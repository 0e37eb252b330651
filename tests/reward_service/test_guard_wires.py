"""Random wires: each sample gets its own score once, in order and in time, whatever happens on the way."""

import asyncio
import random
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.settings import parse
from reward_service.guards.guard import Guard, GuardConfig
from reward_service.guards.identity import Identity
from reward_service.types import Sample, Score, Status
from tests.reward_service.fakes_guards import failed, now, ok, run, sample

MISHAPS = ["none", "none", "none", "timeout", "lost", "broken", "garbage", "deaf", "cancelled"]
FATES = ["ok", "ok", "ok", "ok", "error", "timeout", "unparseable", "invalid_input", "left out", "twice"]


class WildWire:
    """Draws what happens to each request and to each sample in it. The score of a sample is a function of its
    text."""

    def __init__(self, seed: int, slowest_s: float) -> None:
        self._rng, self._slowest_s = random.Random(seed), slowest_s
        self.in_flight: set[str] = set()
        """Texts that are being scored."""
        self.scored: set[str] = set()
        """Texts that an ok score was given for, in an answer that was not lost."""
        self.num_needless = 0
        """Samples sent twice at once, or sent although their score was known."""

    async def __call__(self, samples: Sequence[Sample], deadline: float) -> list[Score]:
        texts = {s.completion for s in samples}
        self.num_needless += len(samples) - len(texts)
        self.num_needless += len(texts & (self.in_flight | self.scored))
        self.in_flight |= texts
        try:
            return await self._answer(samples)
        finally:
            self.in_flight -= texts

    async def _answer(self, samples: Sequence[Sample]) -> list[Score]:
        mishap = self._rng.choice(MISHAPS)
        await asyncio.sleep(self._rng.uniform(0.0, self._slowest_s))
        match mishap:
            case "timeout":
                raise TimeoutError
            case "lost":
                raise ConnectionError("replica died")
            case "broken":
                raise RuntimeError("a bug")
            case "cancelled":
                raise asyncio.CancelledError
            case "garbage":
                return None  # type: ignore[return-value]
            case "deaf":
                await asyncio.sleep(1e4)
        scores = [score for s in samples for score in self._fate(s)]
        scores += [Score(id="stranger", status=Status.OK, value=-1.0)] * self._rng.randrange(2)
        self._rng.shuffle(scores)
        return scores

    def _fate(self, s: Sample) -> list[Score]:
        fate = self._rng.choice(FATES)
        if fate in ("ok", "twice"):
            self.scored.add(s.completion)
            return [ok(s)] * (1 + (fate == "twice"))
        return [] if fate == "left out" else [failed(s, Status(fate))]


@st.composite
def requests(draw: st.DrawFn) -> list[tuple[float, float, list[Sample]]]:
    """When each request comes, how long it may take, and its samples; few texts, so that they often meet."""
    texts = st.lists(st.integers(0, 9), max_size=8)
    moments = st.floats(0.0, 20.0)
    times = draw(st.lists(st.tuples(moments, moments, texts), min_size=1, max_size=5))
    return [
        (start, length, [sample(str(t), id=f"{i}") for i, t in enumerate(ts)]) for start, length, ts in times
    ]


@settings(max_examples=200, deadline=None)
@given(requests(), st.integers(0, 2**32), st.floats(0.0, 10.0), st.sampled_from([None, 4.0]))
def test_each_sample_gets_its_own_score_once_in_order_and_in_time(
    asked: list[tuple[float, float, list[Sample]]], seed: int, slowest_s: float, attempt_s: float | None
) -> None:
    wire = WildWire(seed, slowest_s)
    retry = {"num_retries": 3, "first_backoff_s": 0.5, "attempt_s": attempt_s}
    config = parse(GuardConfig, {"retry": retry, "breaker": {"min_calls": 4, "open_s": 3.0}})

    async def main() -> None:
        guard = Guard(wire, Identity(name="x"), config, clock=now, wall_clock=now, rng=random.Random(seed))

        async def request(start: float, length: float, samples: list[Sample]) -> int:
            await asyncio.sleep(start)
            scores = await guard.score(samples, start + length)
            assert now() <= start + length + 1e-6
            assert [score.id for score in scores] == [s.id for s in samples]
            assert all(
                score.value in (None, float(s.completion)) for score, s in zip(scores, samples, strict=True)
            )
            return len(scores)

        counts = await asyncio.gather(*(request(*r) for r in asked))
        stats = guard.stats()
        assert sum(stats[f"scores/num_{status.value}"] for status in Status) == sum(counts)
        assert stats["flights/num_in_flight"] == 0
        assert wire.num_needless == 0
        # Nothing that the component said was lost on the way to the cache.
        again = await guard.score([sample(text) for text in sorted(wire.scored)], now())
        assert all(score.is_ok for score in again)

    run(main())


@settings(max_examples=100, deadline=None)
@given(requests(), st.integers(0, 2**32), st.lists(st.floats(0.0, 25.0), min_size=5, max_size=5))
def test_callers_that_leave_take_nothing_with_them(
    asked: list[tuple[float, float, list[Sample]]], seed: int, patience_s: list[float]
) -> None:
    wire = WildWire(seed, slowest_s=5.0)

    async def main() -> None:
        guard = Guard(
            wire, Identity(name="x"), GuardConfig(), clock=now, wall_clock=now, rng=random.Random(seed)
        )

        async def request(start: float, length: float, samples: list[Sample], leaves_after_s: float) -> None:
            await asyncio.sleep(start)
            try:
                scores = await asyncio.wait_for(guard.score(samples, start + length), leaves_after_s)
            except TimeoutError:
                return
            assert [score.id for score in scores] == [s.id for s in samples]

        await asyncio.gather(*(request(*r, wait) for r, wait in zip(asked, patience_s, strict=False)))
        assert guard.stats()["flights/num_in_flight"] == 0

    run(main())
