"""Makes the data of recipes/answer_choice.yaml: questions, each with its own answer and with wrong ones.

    python recipes/make_answer_choice.py gsm8k-train.jsonl --out data/answer_choice

Reads one {"question": …, "answer": …} per line, such as the training rows of GSM8K
(openai/grade-school-math, MIT), or other pairs of texts that belong together (--keys en de). Writes
transitions.jsonl (a policy that knew nothing tried the candidates: reward 1 for the right one, else 0) and
held_out.jsonl (other questions, with what each candidate is worth).
"""

import argparse
import json
import math
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

KINDS = ("other", "near", "numbers")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="questions and answers, JSON lines")
    parser.add_argument("--out", type=Path, default=Path("data/answer_choice"), help="the folder to write")
    parser.add_argument(
        "--wrong",
        choices=KINDS,
        default="other",
        help="wrong answers: of any other question, "
        "of the questions with the most words in common, or the right one with other numbers",
    )
    parser.add_argument("--num-train", type=int, default=1500, help="questions to learn from")
    parser.add_argument("--num-held-out", type=int, default=500, help="questions to measure on")
    parser.add_argument("--num-candidates", type=int, default=4, help="answers per question, one is right")
    parser.add_argument("--num-tries", type=int, default=4, help="of them that were tried, drawn at random")
    keys = ("question", "answer")
    parser.add_argument("--keys", nargs=2, default=keys, metavar="KEY", help="of question and answer")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    lines = args.source.read_text(encoding="utf-8").splitlines()
    pairs = distinct(read(line, *args.keys) for line in lines if line.strip())
    rng.shuffle(pairs)
    needed = args.num_train + args.num_held_out
    if len(pairs) < needed:
        print(f"{args.source} has {len(pairs)} questions, {needed} were asked for", file=sys.stderr)
        return 1
    train, held_out = pairs[: args.num_train], pairs[args.num_train : needed]
    args.out.mkdir(parents=True, exist_ok=True)
    tried = transitions(choices(train, args.wrong, args.num_candidates, rng), args.num_tries, rng)
    write(args.out / "transitions.jsonl", tried)
    write(args.out / "held_out.jsonl", choices(held_out, args.wrong, args.num_candidates, rng))
    print(f"{args.num_train} questions to learn from and {args.num_held_out} held out are in {args.out}")
    return 0


def read(line: str, question_key: str, answer_key: str) -> tuple[str, str]:
    """Question and answer of a line, without what GSM8K writes for calculators."""
    row = json.loads(line)
    answer = re.sub(r"<<.*?>>", "", row[answer_key]).replace("\n####", "\nThe answer is")
    return row[question_key].strip(), answer.strip()


def distinct(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The first pair of each question: none is on both sides."""
    return list({question: (question, answer) for question, answer in reversed(list(pairs))}.values())[::-1]


def choices(
    pairs: Sequence[tuple[str, str]], kind: str, num_candidates: int, rng: random.Random
) -> list[dict[str, Any]]:
    """For each question its own answer among wrong ones, in random order, with their worths."""
    num_wrong = num_candidates - 1
    near = nearest([question for question, _ in pairs], num_wrong) if kind == "near" else [[] for _ in pairs]
    found = []
    for number, (question, right) in enumerate(pairs):
        if kind == "numbers":
            others = [other_numbers(right, rng) for _ in range(10 * num_candidates)]
        else:
            # The drawn ones fill up where too few are near, or have another answer.
            drawn = rng.sample(range(len(pairs)), min(len(pairs), num_candidates + 2))
            others = [pairs[i][1] for i in (*near[number], *drawn)]
        wrong = [answer for answer in dict.fromkeys(others) if answer != right]
        candidates = [right, *wrong[:num_wrong]]
        rng.shuffle(candidates)
        values = [float(candidate == right) for candidate in candidates]
        if len(candidates) > 1:
            found.append({"state": question, "actions": candidates, "values": values})
    return found


def transitions(
    rows: Iterable[Mapping[str, Any]], num_tries: int, rng: random.Random
) -> list[dict[str, Any]]:
    """What a policy meets that tries some of the candidates of each question, each once."""
    return [
        {
            "state": row["state"],
            "actions": row["actions"],
            "action": number,
            "reward": row["values"][number],
            "done": True,
        }
        for row in rows
        for number in rng.sample(range(len(row["actions"])), min(num_tries, len(row["actions"])))
    ]


def other_numbers(text: str, rng: random.Random) -> str:
    """The text with one change in all places of one of its numbers."""
    numbers = sorted(set(re.findall(r"\d+", text)))
    if not numbers:
        return text
    old = rng.choice(numbers)
    new = str(max(0, int(old) + rng.choice((-10, -3, -2, -1, 1, 2, 3, 10))))
    return re.sub(rf"(?<!\d){old}(?!\d)", new, text)


def nearest(texts: Sequence[str], num: int) -> list[list[int]]:
    """For each text the numbers of those that share the most rare words with it."""
    words = [set(re.findall(r"[a-z]+", text.lower())) for text in texts]
    count = Counter(word for of_text in words for word in of_text)
    with_word: defaultdict[str, list[int]] = defaultdict(list)
    for number, of_text in enumerate(words):
        for word in of_text:
            with_word[word].append(number)
    # Words of every tenth text and more tell little, and cost most.
    is_rare = {word for word, n in count.items() if n <= max(2, len(texts) // 10)}
    found = []
    for number, of_text in enumerate(words):
        likeness: Counter[int] = Counter()
        for word in sorted(of_text & is_rare):
            for other in with_word[word]:
                likeness[other] += math.log(len(texts) / count[word]) / math.sqrt(len(words[other]))
        del likeness[number]
        found.append([other for other, _ in likeness.most_common(num)])
    return found


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
