"""Preference pairs as the token ids that the model reads."""

from collections.abc import Sequence
from dataclasses import dataclass

from antiphon.errors import UserError
from learner.reward_model.data import PreferencePair, PreferenceSplit
from reward_service.networks.encoding import Ids, TextEncoder
from reward_service.reward import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPair:
    """The ids of both answers, each with its prompt, and how surely the chosen one is the better."""

    chosen: Ids
    rejected: Ids
    target: float

    @property
    def num_tokens(self) -> int:
        """What its two rows take in a batch."""
        return 2 * max(len(self.chosen), len(self.rejected))


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedSplit:
    """The pairs that fit, as texts in `split`, and the same ones in the same order as ids."""

    split: PreferenceSplit
    train: tuple[EncodedPair, ...]
    held_out: tuple[EncodedPair, ...]


def encode_split(split: PreferenceSplit, encoder: TextEncoder) -> EncodedSplit:
    """Both sides encoded; pairs that are too long, and may not be cut, are left out and counted.

    Raises:
        UserError: none is left on one of the sides.
    """
    train, held_out = _fitting(split.train, encoder), _fitting(split.held_out, encoder)
    if not train or not held_out:
        raise UserError(
            f"no pair is short enough: the model reads {encoder.max_length} tokens",
            remedy="set input.max_length higher, or input.too_long to what may be cut",
        )
    num_too_long = len(split.train) + len(split.held_out) - len(train) - len(held_out)
    return EncodedSplit(
        split=PreferenceSplit(
            train=tuple(train),
            held_out=tuple(held_out),
            left_out={**split.left_out, "too_long": num_too_long},
        ),
        train=tuple(train.values()),
        held_out=tuple(held_out.values()),
    )


def _fitting(pairs: Sequence[PreferencePair], encoder: TextEncoder) -> dict[PreferencePair, EncodedPair]:
    encoded = {}
    for pair in pairs:
        try:
            encoded[pair] = EncodedPair(
                chosen=encoder.encode(pair.prompt, pair.chosen),
                rejected=encoder.encode(pair.prompt, pair.rejected),
                target=pair.target,
            )
        except InvalidInput:
            continue
    return encoded
