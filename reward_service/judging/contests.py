"""Samples to comparisons, and decided comparisons to the share that each completion won.

Called by the component `pairwise`. Pure: it asks nobody. Equal texts are one player, so that a completion is
never compared with its copy and copies have equal scores.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from reward_service.judging.pairs import Pair, circle, win_share
from reward_service.types import NOTHING, Sample, Status, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one pair ended, both orders taken together."""

    left_share: float | None = None
    """1 where the left one won, 0 where the right one did, between where the orders disagree or it is a tie;
    None where it was not decided."""
    status: Status = Status.OK
    """Why it was not decided."""
    message: str = ""
    usages: tuple[Usage, Usage] = (NOTHING, NOTHING)
    """Of the question with the left one first, and of the other."""
    latency_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a contest says of one of its samples."""

    share: float | None = None
    """Of its comparisons won; None where too few were decided."""
    opponents: tuple[str, ...] = ()
    """The texts that it was compared with; its own where there was no other."""
    status: Status = Status.OK
    message: str = ""
    usage: Usage = NOTHING
    latency_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Texts that are compared with each other."""

    sample: Sample
    """Whose prompt and reference are shown to the judge."""
    players: tuple[str, ...]
    """Texts, all different; sorted by hash, so that the order of the samples plays no part."""
    pairs: tuple[Pair, ...]
    """Which of the players are compared."""
    members: tuple[tuple[int, str], ...]
    """The samples to be scored: number in the call, and text."""
    num_entries: int
    """Texts that came in, copies and the reference among them."""

    def texts(self, pair: Pair) -> tuple[str, str]:
        return self.players[pair[0]], self.players[pair[1]]

    def verdicts(self, outcomes: Sequence[Outcome], min_decided_share: float) -> list[tuple[int, Verdict]]:
        """The verdict on every member, with its number in the call. `outcomes` is parallel to the pairs."""
        first_of = {text: number for number, text in reversed(self.members)}
        return [
            (number, self._verdict(text, outcomes, min_decided_share, is_payer=first_of[text] == number))
            for number, text in self.members
        ]

    def _verdict(
        self, text: str, outcomes: Sequence[Outcome], min_decided_share: float, *, is_payer: bool
    ) -> Verdict:
        """`is_payer`: of samples with equal texts, one bears the cost."""
        if not self.pairs:
            return self._without_pairs(text)
        player = self.players.index(text)
        own = [(pair, o) for pair, o in zip(self.pairs, outcomes, strict=True) if player in pair]
        decided = {pair: o.left_share for pair, o in own if o.left_share is not None}
        usage = sum((self._cost(player, pair, o) for pair, o in own), NOTHING) if is_payer else NOTHING
        latency_s = max(o.latency_s for _, o in own)
        if not decided or len(decided) < min_decided_share * len(own):
            lost = next(o for _, o in own if o.left_share is None)
            message = f"{len(decided)} of {len(own)} comparisons were decided: {lost.message}"
            return Verdict(status=lost.status, message=message, usage=usage, latency_s=latency_s)
        return Verdict(
            share=win_share(player, list(decided), decided),
            opponents=tuple(self.players[i] for pair in decided for i in pair if i != player),
            usage=usage,
            latency_s=latency_s,
        )

    def _without_pairs(self, text: str) -> Verdict:
        """There is one text only: as good as its copies, or it has nobody to be compared with."""
        if self.num_entries > 1:
            return Verdict(share=0.5, opponents=(text,))
        message = "it is alone in its group; to score single completions set opponents: reference"
        return Verdict(status=Status.INVALID_INPUT, message=message)

    def _cost(self, player: int, pair: Pair, outcome: Outcome) -> Usage:
        """Each player bears the question that shows it first; where the other is no sample, both."""
        other = self.players[pair[1] if player == pair[0] else pair[0]]
        first, second = outcome.usages
        if all(text != other for _, text in self.members):
            return first + second
        return first if player == pair[0] else second


def within_groups(samples: Sequence[tuple[int, Sample]], max_opponents: int) -> list[Contest]:
    """One contest for each group of each judgement; `samples` come with their numbers in the call."""
    groups: dict[tuple[str, str, int], list[tuple[int, Sample]]] = defaultdict(list)
    for number, sample in samples:
        # The prompt as well: requests of several runs, which may name their groups alike, are batched.
        key = (sample.group or f"alone {number}", sample.prompt, sample.repeat)
        groups[key].append((number, sample))
    return [_contest(members, [], max_opponents) for members in groups.values()]


def with_references(samples: Sequence[tuple[int, Sample]]) -> list[Contest]:
    """One contest for each sample; all must have references."""
    return [_contest([(number, s)], [s.reference or ""], 2) for number, s in samples]


def _contest(members: Sequence[tuple[int, Sample]], others: Sequence[str], max_opponents: int) -> Contest:
    texts = [sample.completion for _, sample in members]
    players = tuple(sorted({*texts, *others}, key=_hash))
    return Contest(
        sample=members[0][1],
        players=players,
        pairs=tuple(circle(len(players), max_opponents)),
        members=tuple((number, sample.completion) for number, sample in members),
        num_entries=len(members) + len(others),
    )


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
