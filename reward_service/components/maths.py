"""Is the completion's answer mathematically the reference?"""

import logging
import re
import threading
from itertools import product
from typing import Any, Literal

from pydantic import Field

from antiphon.settings import Settings
from reward_service.optional import imported, require
from reward_service.reward import InvalidInput, Reward, reference_of
from reward_service.types import Sample

DELIMITER = re.compile(r"\$|\\\(|\\\[|\\boxed")
NAMES = re.compile(r"\\(?:text|mathrm|begin|end)\{[^{}]*\}|\\[A-Za-z]+")
WORD = re.compile(r"[^\W\d_]{2,}")
FORMULA = re.compile(r"[A-Za-z\\^,(){}\[\]]")
NO_FORMULA = re.compile(r"\d\s+\d|^[^A-Za-z]*=")
SCIENTIFIC = re.compile(r"(?<=[\d.])[eE]([-+]?\d+)\b")


class Maths(Reward):
    """1 where math-verify finds the answer equal to the reference, else 0.

    The library takes the answer out of the text (the last \\boxed{...}, `$...$` or number; "the final answer
    is ..." goes first), reads it by sympy, and compares by value, by form and by simplification: 1/2 is 0.5,
    x^2+2x+1 is (x+1)^2. Several answers are a set, which no single number equals.
    What it cannot read is not the answer; what it cannot decide in time is a timeout, never a 0.
    """

    name = "maths"
    # sympy follows every power tower that a completion writes, within its time and memory.
    placement = "isolated"

    class Config(Settings):
        reference_form: Literal["auto", "text", "latex"] = "auto"
        """What references are: "latex" without $ around it, "text" that contains the answer as completions
        do, or "auto": LaTeX if it is nothing but an expression (no word, no $, no \\boxed), else text."""
        must_be_boxed: bool = False
        """Only an answer in \\boxed{...} counts."""
        num_decimals: int = Field(6, ge=0)
        """Decimal numbers are rounded to so many digits before they are compared."""
        is_strict: bool = True
        """Names of variables and kinds of brackets matter: x + 1 is not y + 1, (1, 2) is not {1, 2}."""
        timeout_s: int = Field(3, ge=1)
        """For reading and for each comparison, where the component runs in a main thread. Keep it below the
        deadline of isolated components: giving up is cheaper than a new process."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        require("math_verify", self.name)
        self._library: Any = None
        self._given_up: type[BaseException] = BaseException

    def start(self) -> None:
        self._library = imported("math_verify", self.name)
        self._given_up = imported("math_verify.errors", self.name).TimeoutException
        # Its warnings are of clocks: that there is none (here, and outside of main threads), or that one
        # ran out, which is a status.
        logging.getLogger("math_verify").setLevel(logging.ERROR)
        # The first formula takes seconds, and should not use up the time of a sample.
        self._library.parse("$\\frac{1}{2}$", parsing_timeout=None)

    def score_one(self, sample: Sample) -> float:
        expected = self._read(self._as_read(reference_of(sample), self.config.reference_form))
        if not expected:
            raise InvalidInput(f"math-verify finds no answer in the reference {sample.reference!r}")
        if self.config.must_be_boxed and "\\boxed{" not in sample.completion:
            return 0.0
        answer = self._read(self._as_read(sample.completion, "auto"))
        # Strings come last in both lists and are the cheapest to compare.
        return float(any(self._are_equal(e, a) for e, a in product(expected[::-1], answer[::-1])))

    def _as_read(self, text: str, form: str) -> str:
        text = text.strip().rstrip(".").replace("\N{MINUS SIGN}", "-")
        if form == "latex" or (form == "auto" and is_expression(text)):
            # In LaTeX an e is Euler's number.
            return "$" + SCIENTIFIC.sub(r"\\cdot 10^{\1}", text) + "$"
        return text

    def _read(self, text: str) -> list[Any]:
        """The answer in a text: an expression of sympy, and its string. Empty where there is none."""
        latex = self._library.LatexExtractionConfig(
            boxed_match_priority=0 if self.config.must_be_boxed else 50
        )
        kinds = [latex, self._library.ExprExtractionConfig()]
        return self._within_time(
            [], self._library.parse, text, kinds, parsing_timeout=self._timeout_s(), raise_on_error=True
        )

    def _are_equal(self, expected: Any, answer: Any) -> bool:
        return self._within_time(
            False,
            self._library.verify,
            expected,
            answer,
            float_rounding=self.config.num_decimals,
            strict=self.config.is_strict,
            timeout_seconds=self._timeout_s(),
            raise_on_error=True,
        )

    def _within_time(self, otherwise: Any, function: Any, *args: Any, **options: Any) -> Any:
        """What the library says; `otherwise` where sympy fails on what the text says."""
        try:
            return function(*args, **options)
        except self._given_up as error:
            raise TimeoutError(f"math-verify gave up after {self.config.timeout_s} s") from error
        except MemoryError:
            raise
        except Exception:  # Untrusted text: what cannot be read or compared is not shown to be equal.
            return otherwise

    def _timeout_s(self) -> int | None:
        # The library's clock is SIGALRM, which only a main thread may set.
        is_main = threading.current_thread() is threading.main_thread()
        return self.config.timeout_s if is_main else None


def is_expression(text: str) -> bool:
    """Whether a text is nothing but a formula, so that it is LaTeX even without $ around it.

    No word (two letters or more, commands of LaTeX aside), no delimiter of LaTeX, no two numbers side by
    side, and not a sum that is being worked out ("3 + 4 = 7"). Plain numbers count as text.
    """
    is_plain = DELIMITER.search(text) or WORD.search(NAMES.sub(" ", text)) or NO_FORMULA.search(text)
    return FORMULA.search(text) is not None and not is_plain
