"""Does the completion end on the right number?"""

import re
from decimal import Decimal

from pydantic import Field

from antiphon.settings import Settings
from reward_service.reward import InvalidInput, Reward, reference_of
from reward_service.types import Sample

# A minus after a word is a hyphen or an operator: "10-3" ends on 3. Exponents stay within what Decimal
# can hold. Every repetition ends at the next character, so that no completion takes quadratic time.
NUMBER = re.compile(
    r"(?:(?<![\w)])[-+])?(?:\d+(?:,\d+)*(?:\.\d+)?|\.\d+)(?:e[-+]?\d{1,4})?", re.ASCII | re.IGNORECASE
)
THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?![\d,])", re.ASCII)


class Numeric(Reward):
    """1 where the last number of the completion equals that of the reference, else 0."""

    name = "numeric"

    class Config(Settings):
        tolerance: float = Field(1e-6, ge=0.0, allow_inf_nan=False)
        """The largest difference that still counts as equal; absolute, so that 1000000 is not 1000001."""

    config: Config

    def score_one(self, sample: Sample) -> float:
        expected, got = last_number(reference_of(sample)), last_number(sample.completion)
        if expected is None:
            raise InvalidInput(f"the reference {sample.reference!r} contains no number")
        return float(got is not None and abs(got - expected) <= Decimal(self.config.tolerance))


def last_number(text: str) -> Decimal | None:
    """The last number in a text, exactly; None where there is none.

    A comma groups thousands ("so 1,234.50 in all." gives 1234.50), or separates numbers ("1,2,3" gives 3).
    """
    found = NUMBER.findall(text.replace("\N{MINUS SIGN}", "-"))
    if not found:
        return None
    if THOUSANDS.match(found[-1]):
        return Decimal(found[-1].replace(",", ""))
    return Decimal(found[-1].rpartition(",")[2])
