"""Where personal data stand in a text: functions that give the spans of one kind.

Patterns find candidates in time that is linear in the text; checksums and libraries decide. What has no form
(names, addresses) is not found: that takes a model, which a recipe can name by its import path.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec

from antiphon.errors import UserError
from antiphon.secrets import SHAPES

Span = tuple[int, int]
"""First and one past the last character."""
Finder = Callable[[str], Iterable[Span]]

EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+'-]++@(?:[\w-]{1,63}\.)+[^\W\d_]{2,63}")
CARD = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,}")
IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,34}")
IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\.?\w)")
IPV6 = re.compile(
    r"(?<![\w:.])(?=[0-9A-Fa-f]*:[0-9A-Fa-f]*:)[0-9A-Fa-f:]++(?:(?:\d{1,3}\.){3}\d{1,3})?(?![\w:])"
)
CARD_LENGTHS = range(13, 20)
CARD_ISSUERS = "23456"
"""First digits of payment cards (ISO/IEC 7812); others are airlines and petrol."""


def emails(text: str) -> Iterator[Span]:
    """user@host.domain, letters of any script."""
    return (m.span() for m in EMAIL.finditer(text))


def cards(text: str) -> Iterator[Span]:
    """Numbers of payment cards: 13 to 19 digits whose Luhn sum is 0. Of random digits, one in twenty is."""
    for m in CARD.finditer(text):
        for begin, end in _windows(m.group()):
            digits = re.sub(r"\D", "", m.group()[begin:end])
            if len(digits) in CARD_LENGTHS and digits[0] in CARD_ISSUERS and luhn(digits) == 0:
                yield m.start() + begin, m.start() + end


def ibans(text: str) -> Iterator[Span]:
    """Bank accounts (ISO 13616): the number modulo 97 is 1. Words behind it are left alone."""
    for m in IBAN.finditer(text):
        ends = [*(i for i, c in enumerate(m.group()) if c == " "), len(m.group())]
        fitting = [end for end in ends if iban_remainder(m.group()[:end].replace(" ", "")) == 1]
        if fitting:
            yield m.start(), m.start() + fitting[-1]


def ips(text: str) -> Iterator[Span]:
    """Addresses of the internet protocol, 4 and 6."""
    for pattern in (IPV4, IPV6):
        for m in pattern.finditer(text):
            if _is_address(m.group()):
                yield m.span()


def keys(text: str) -> Iterator[Span]:
    """Keys of known services, tokens, private keys and passwords in URLs, see secrets.py."""
    return (m.span() for m in SHAPES.finditer(text))


def phones(regions: Sequence[str]) -> Finder:
    """Phone numbers that exist by the tables of libphonenumber: with + of any country, without of `regions`.

    Raises:
        UserError: the package is not installed, or a region is unknown to it.
    """
    if find_spec("phonenumbers") is None:
        raise UserError(
            "privacy.mask names phone, which needs a package that is not installed",
            remedy="pip install 'antiphon[privacy]', or leave phone out",
        )
    library = import_module("phonenumbers")
    unknown = [region for region in regions if region not in library.SUPPORTED_REGIONS]
    if unknown:
        raise UserError(
            f"privacy.regions {unknown[0]!r} is no country", remedy="two capital letters, US for example"
        )

    def find(text: str) -> Iterator[Span]:
        for region in regions:
            for match in library.PhoneNumberMatcher(text, region, max_tries=max(len(text), 1)):
                yield match.start, match.end

    return find


FINDERS: Mapping[str, Finder] = {"email": emails, "card": cards, "iban": ibans, "ip": ips, "key": keys}


def luhn(digits: str) -> int:
    """The Luhn sum modulo 10 (ISO/IEC 7812-1): every second digit from the right is doubled, 9 taken off."""
    doubled = (2 * int(d) for d in digits[-2::-2])
    return (sum(int(d) for d in digits[::-2]) + sum(d - 9 if d > 9 else d for d in doubled)) % 10


def iban_remainder(iban: str) -> int:
    """An IBAN without spaces as a number, modulo 97: its first four characters last, A = 10 … Z = 35."""
    return int("".join(str(int(c, 36)) for c in iban[4:] + iban[:4])) % 97


def _windows(run: str) -> Iterator[Span]:
    """The parts of a run of digits that begin and end where a group of digits does."""
    groups = [m.span() for m in re.finditer(r"\d+", run)]
    for i, (begin, _) in enumerate(groups):
        for _, end in groups[i : i + CARD_LENGTHS.stop]:
            yield begin, end


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
