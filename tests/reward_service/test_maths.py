"""The verifier of mathematical answers: what counts as equal, and that a formula without end is no 0."""

import json
import subprocess
import sys
import threading

import pytest

from reward_service.components.maths import is_expression
from reward_service.types import Status
from tests.reward_service.fakes_rewards import judge, sample, value

TOWER = "\\boxed{10^{10^{10}}}"
"""Ten thousand million digits, once it is worked out."""


@pytest.mark.parametrize(
    ("completion", "reference", "expected"),
    [
        ("The answer is 42.", "42", 1.0),
        ("The answer is 41.", "42", 0.0),
        ("So we get $\\frac{1}{2}$", "0.5", 1.0),
        ("\\boxed{\\frac12}", "1/2", 1.0),
        ("0.333333", "1/3", 1.0),
        ("0.3333", "1/3", 0.0),
        ("3 + 4 = 7", "7", 1.0),
        ("it is \N{MINUS SIGN}7", "-7", 1.0),
        ("1,234.5", "$1234.5$", 1.0),
        # The last answer counts, and a box before everything else in it.
        ("first 42, then 43", "42", 0.0),
        ("first 41, then 42", "42", 1.0),
        # Writing down several answers gives a set, which is not the number.
        ("\\boxed{41} or \\boxed{42}", "42", 0.0),
        ("$41$ or $42$ or $43$", "42", 0.0),
        # Formulas, with and without dollars.
        ("$(x+1)^2$", "x^2 + 2x + 1", 1.0),
        ("(x+1)^2", "$x^2 + 2x + 1$", 1.0),
        ("(x+1)^2.", "x^2 + 2x + 1.", 1.0),
        ("$(x+1)^2$", "x^2 + 2x", 0.0),
        ("x = 5", "5", 1.0),
        ("$[1, 3)$", "[1,3)", 1.0),
        ("$(1, 3)$", "[1,3)", 0.0),
        ("$\\{2, 1\\}$", "1, 2", 1.0),
        ("$\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}$", "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", 1.0),
        ("$\\text{east}$", "\\text{east}", 1.0),
        ("the answer is $5\\%$", "0.05", 1.0),
        ("100000", "1e5", 1.0),
        # No answer at all.
        ("", "42", 0.0),
        ("I do not know", "42", 0.0),
        ("\\boxed{}", "42", 0.0),
        ("\\boxed{((((}", "42", 0.0),
        ("$\\frac{1}{0}$", "42", 0.0),
    ],
)
def test_answers(completion: str, reference: str, expected: float) -> None:
    assert value("maths", completion, reference) == expected


def test_the_form_of_references_can_be_told() -> None:
    # As text the last number of the sentence is the answer; as LaTeX the letters are variables.
    assert value("maths", "7", "f of 3 is 7", reference_form="text") == 1.0
    assert value("maths", "$xy$", "xy", reference_form="latex") == 1.0
    assert value("maths", "7", "f of 3 is 7", reference_form="latex") == 0.0


def test_a_reference_without_an_answer_is_invalid_input() -> None:
    (score,) = judge("maths", sample("east", reference="to the east"))
    assert score.status is Status.INVALID_INPUT
    assert "finds no answer in the reference 'to the east'" in score.message


def test_a_box_can_be_demanded() -> None:
    assert value("maths", "the answer is 42", "42", must_be_boxed=True) == 0.0
    assert value("maths", "the answer is \\boxed{42}", "42", must_be_boxed=True) == 1.0
    # What is said after the box does not count.
    assert value("maths", "\\boxed{42}; the final answer is $41$", "42", must_be_boxed=True) == 1.0
    assert value("maths", "\\boxed{42}; the final answer is $41$", "42") == 0.0


def test_decimals_and_strictness_reach_the_library() -> None:
    assert value("maths", "0.3333", "1/3", num_decimals=4) == 1.0
    assert value("maths", "$y+1$", "x+1") == 0.0
    assert value("maths", "$y+1$", "x+1", is_strict=False) == 1.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x+1", True),
        ("(1,2)", True),
        ("\\frac12", True),
        ("1,2", True),
        ("\\text{east}", True),
        ("1e5", True),
        ("", False),
        ("42", False),
        ("$x+1$", False),
        ("\\boxed{3}", False),
        ("the answer is x", False),
        ("12 34", False),
        ("(3 + 4) = 7", False),
    ],
)
def test_what_is_nothing_but_an_expression(text: str, expected: bool) -> None:
    assert is_expression(text) is expected


def test_a_formula_without_end_is_a_timeout_and_never_a_zero() -> None:
    """Run in the main thread of a process of its own, as in the service: the library's clock is a signal."""
    script = f"""
import json
from tests.reward_service.fakes_rewards import judge, sample
samples = [sample({TOWER!r}, id="tower", reference="42"), sample("42", id="next", reference="42")]
print(json.dumps([(s.status, s.value, s.message) for s in judge("maths", *samples, timeout_s=1)]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    tower, neighbour = json.loads(done.stdout.splitlines()[-1])
    assert tower[:2] == ["timeout", None]
    assert "math-verify gave up after 1 s" in tower[2]
    assert neighbour[:2] == ["ok", 1.0]


def test_outside_a_main_thread_there_is_no_clock_and_answers_are_the_same() -> None:
    got = []
    thread = threading.Thread(target=lambda: got.append(value("maths", "$\\frac12$", "0.5")))
    thread.start()
    thread.join(timeout=30)
    assert got == [1.0]
