"""Makes the data of recipes/dialogue_acts.yaml: a support desk of two to four turns, where patience pays.

    python recipes/make_dialogue_acts.py --gamma 0.9 --out data/dialogue_acts

A customer complains. A voucher ends the talk at once and is worth 0.5; the right remedy is worth 1, and only
the question that belongs to the complaint opens the way to it; any other question costs a turn. So asking
first is worth γ, which is more than a voucher if γ > 0.5. The worth of every act in held_out.jsonl is the
exact Q.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VOUCHER = "Offer a voucher and close."
VOUCHER_WORTH = 0.5
QUESTIONS = ("Ask for the order number.", "Ask for a photo.", "Ask for the bank statement.")
REMEDIES = ("Send the parcel again.", "Replace the broken part.", "Pay the difference back.")
COMPLAINTS = (
    (
        "My {thing} has not arrived.",
        "Where is my {thing}? I have waited for it since {day}.",
        "The {thing} that I ordered on {day} never came.",
    ),
    (
        "My {thing} came broken.",
        "I opened the box on {day}, and the {thing} is in pieces.",
        "There is a crack in my new {thing}.",
    ),
    (
        "I was charged twice for the {thing}.",
        "You took too much money for my {thing} on {day}.",
        "The price of the {thing} on my bill is wrong.",
    ),
)
THINGS = ("lamp", "kettle", "chair", "radio", "clock", "mirror", "blanket", "teapot", "shelf", "guitar")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
ANSWERS = ("It is number {number}.", "Here is the picture.", "It is attached.")
NO_USE = "I do not see how that helps."


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """A dialogue so far."""

    kind: int
    """Which complaint: it wants the question and the remedy with the same number."""
    number: int
    """Of the order."""
    lines: tuple[str, ...]
    is_understood: bool = False
    """Whether the right question was asked."""
    asked: frozenset[str] = frozenset()

    @property
    def state(self) -> str:
        return "\n".join(self.lines)

    @property
    def acts(self) -> tuple[str, ...]:
        """What may be done now: no question twice, and remedies only for what is understood."""
        if self.is_understood:
            return (*REMEDIES, VOUCHER)
        return (*(question for question in QUESTIONS if question not in self.asked), VOUCHER)

    def after(self, act: str) -> "tuple[float, Talk | None]":
        """The reward of an act, and the talk that follows; None: it is over."""
        if act == VOUCHER:
            return VOUCHER_WORTH, None
        if act in REMEDIES:
            return float(act == REMEDIES[self.kind]), None
        is_right = act == QUESTIONS[self.kind]
        reply = ANSWERS[self.kind].format(number=self.number) if is_right else NO_USE
        return 0.0, Talk(
            kind=self.kind,
            number=self.number,
            lines=(*self.lines, f"Agent: {act}", f"Customer: {reply}"),
            is_understood=is_right,
            asked=self.asked | {act},
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("data/dialogue_acts"), help="the folder to write")
    parser.add_argument("--gamma", type=float, default=0.9, help="that of the recipe: for the exact Q")
    parser.add_argument("--num-train", type=int, default=500, help="dialogues by a policy that knows nothing")
    parser.add_argument(
        "--num-held-out", type=int, default=60, help="complaints to measure on, in all states"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    # Whole things are held out: no complaint about them is ever learned from.
    train = [row for _ in range(args.num_train) for row in episode(complaint(rng, THINGS[:-3]), rng)]
    talks = {
        talk.state: talk for _ in range(args.num_held_out) for talk in reachable(complaint(rng, THINGS[-3:]))
    }
    args.out.mkdir(parents=True, exist_ok=True)
    write(args.out / "transitions.jsonl", train)
    write(args.out / "held_out.jsonl", [choice(talk, args.gamma) for talk in talks.values()])
    print(f"{len(train)} transitions and {len(talks)} held-out states are in {args.out}")
    return 0


def complaint(rng: random.Random, things: Sequence[str]) -> Talk:
    """A customer's first line."""
    kind = rng.randrange(len(COMPLAINTS))
    text = rng.choice(COMPLAINTS[kind]).format(thing=rng.choice(things), day=rng.choice(DAYS))
    return Talk(kind=kind, number=rng.randrange(100, 1000), lines=(f"Customer: {text}",))


def episode(talk: Talk, rng: random.Random) -> Iterator[dict[str, Any]]:
    """The transitions of a dialogue in which every act is drawn blindly."""
    current: Talk | None = talk
    while current is not None:
        act = rng.choice(current.acts)
        reward, following = current.after(act)
        yield {
            "state": current.state,
            "actions": list(current.acts),
            "action": act,
            "reward": reward,
            "next_state": following and following.state,
            "next_actions": list(following.acts) if following else [],
            "done": following is None,
        }
        current = following


def reachable(talk: Talk) -> Iterator[Talk]:
    """The talk and all that can follow it."""
    yield talk
    for act in talk.acts:
        _, following = talk.after(act)
        if following is not None:
            yield from reachable(following)


def exact_q(talk: Talk, act: str, gamma: float) -> float:
    """Q*(s, a) = r + γ max_a' Q*(s', a')."""
    reward, following = talk.after(act)
    if following is None:
        return reward
    return reward + gamma * max(exact_q(following, a, gamma) for a in following.acts)


def choice(talk: Talk, gamma: float) -> dict[str, Any]:
    """A state with the worth of every act."""
    return {
        "state": talk.state,
        "actions": list(talk.acts),
        "values": [exact_q(talk, act, gamma) for act in talk.acts],
    }


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
