"""Who is compared with whom, and what the verdicts amount to. Pure functions; called by `pairwise`."""

from collections.abc import Mapping, Sequence

Pair = tuple[int, int]


def circle(num: int, max_opponents: int) -> list[Pair]:
    """Pairs among 0..num-1: everybody with everybody, or each with the same number of neighbours in a ring.

    With k = max_opponents (even) less than num − 1, i is compared with i ± 1, ..., i ± k/2 (modulo num): each
    has exactly k opponents, in k · num / 2 pairs, and all are connected through others.

    Raises:
        ValueError: an odd number of opponents, or fewer than two.
    """
    if max_opponents < 2 or max_opponents % 2:
        raise ValueError(f"max_opponents must be even and at least 2, got {max_opponents}")
    if max_opponents >= num - 1:
        return [(i, j) for i in range(num) for j in range(i + 1, num)]
    return [(i, (i + step) % num) for i in range(num) for step in range(1, max_opponents // 2 + 1)]


def win_share(player: int, pairs: Sequence[Pair], left_shares: Mapping[Pair, float]) -> float:
    """The mean of what the player won in those of its pairs that were decided.

    Args:
        left_shares: by pair, what the left one won: 1, 0, or between.

    Raises:
        ValueError: none of them was.
    """
    won = [
        left_shares[pair] if player == pair[0] else 1.0 - left_shares[pair]
        for pair in pairs
        if player in pair and pair in left_shares
    ]
    if not won:
        raise ValueError(f"no pair of {player} was decided")
    return sum(won) / len(won)
