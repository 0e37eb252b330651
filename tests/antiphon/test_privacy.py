import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.errors import UserError
from antiphon.personal_data import FINDERS, iban_remainder, luhn
from antiphon.privacy import NOTHING_MASKED, Masker, PrivacyConfig, build_masker

ALL = build_masker(PrivacyConfig(mask=tuple(FINDERS)))
MASKED = [
    ("write to anna.lee+x@mail.example.com.", "write to [email]."),
    ("<o'neil@exämple.de>, b@c.co", "<[email]>, [email]"),
    ("card 4111 1111 1111 1111, thanks", "card [card], thanks"),
    ("4111111111111111", "[card]"),
    # Groups before and behind do not hide it.
    ("1234 4111 1111 1111 1111 99", "1234 [card] 99"),
    ("DE89 3704 0044 0532 0130 00 IS MINE", "[iban] IS MINE"),
    ("GB82WEST12345698765432", "[iban]"),
    ("from 192.168.17.4. Or ::1, or 2001:db8::8a2e:370:7334", "from [ip]. Or [ip], or [ip]"),
    ("key sk-" + "a1" * 12, "key [key]"),
]
LEFT = [
    "sort 5821= -> 1258",
    "a@b, @home, x@localhost",
    "at 12:30:45, version 1.2.3.4.5, 999.1.1.1",
    "4111 1111 1111 1112",  # Luhn: one off
    "1111111111111117",  # no issuer of cards begins with 1
    "DE88 3704 0044 0532 0130 00",  # modulo 97: one off
    "A::B::C std::vector<int>",
    "",
]


@pytest.mark.parametrize(("text", "masked"), MASKED)
def test_personal_data_become_their_kind(text, masked):
    assert ALL.text(text) == masked
    assert ALL.has_marked(masked)


@pytest.mark.parametrize("text", LEFT)
def test_what_only_looks_alike_is_left_alone(text):
    """Mutation: without the checksums, the card, the bank account and the address are masked."""
    assert ALL.text(text) == text
    assert not ALL.has_marked(text)


def test_checksums_are_those_of_their_norms():
    # 7992739871 with check digit 3: from the right 3+1*2+7+8*2+9+3*2+7+2*2+9+9*2+7 with 9 taken off
    # = 3+2+7+7+9+6+7+4+9+9+7 = 70.
    assert (luhn("79927398713"), luhn("79927398710")) == (0, 7)
    # 3214282912345698765432161182 mod 97 = 1, the example of ISO 13616: GB82 WEST 1234 5698 7654 32.
    assert 3214282912345698765432161182 % 97 == iban_remainder("GB82WEST12345698765432") == 1


@given(st.text(alphabet="a1@.: -[]DE89sk", max_size=80))
def test_masking_twice_is_masking_once(text):
    once = ALL.text(text)
    assert ALL.text(once) == once


def test_what_begins_before_a_text_and_ends_in_it_is_masked_in_it():
    """A prompt may end with half of an address. Mutation: masking the text alone leaves ".com here"."""
    assert ALL.tail("write to a@b", ".com here") == "[email] here"
    assert ALL.tail("a@b.com ", "and c@d.com") == "and [email]"
    assert ALL.tail("a@b.com", "") == ""


def test_of_spans_that_overlap_nothing_is_left_over():
    masker = Masker(
        {"x": lambda t: [(0, 3), (5, 6)], "y": lambda t: [(2, 5), (1, 2)], "z": lambda t: [(7, 7)]}
    )
    assert masker.text("abcdefgh") == "[x][x]gh"


def test_trees_are_masked_with_their_keys_and_other_values_stay():
    tree = {"a@b.com": ["c@d.com", 5, None], "n": {"t": ("e@f.com", 1.5, True)}}
    assert ALL.tree(tree) == {"[email]": ["[email]", 5, None], "n": {"t": ("[email]", 1.5, True)}}


def test_nothing_is_masked_unless_asked_for():
    assert NOTHING_MASKED.text("a@b.com") == "a@b.com"
    assert not NOTHING_MASKED.is_on
    assert not build_masker(PrivacyConfig()).is_on
    assert build_masker(PrivacyConfig(mask=("card",))).text("a@b.com") == "a@b.com"


def digits(text):
    return [(i, i + 1) for i, c in enumerate(text) if c.isdigit()]


def beyond(text):
    return [(0, len(text) + 1)]


def test_a_function_of_ones_own_finds_what_has_no_form():
    path = f"{__name__}:digits"
    assert build_masker(PrivacyConfig(mask=(path,))).text("a1b") == "a[digits]b"
    with pytest.raises(ValueError, match=r"found \(0, 2\) in a text of 1 characters"):
        build_masker(PrivacyConfig(mask=(f"{__name__}:beyond",))).text("a")
    with pytest.raises(UserError, match="is no function"):
        build_masker(PrivacyConfig(mask=(f"{__name__}:ALL",)))


def test_an_unknown_kind_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="'emails' is no kind of data") as error:
        build_masker(PrivacyConfig(mask=("emails",)))
    assert "did you mean 'email'" in error.value.remedy


def test_phone_numbers_are_those_that_can_exist():
    pytest.importorskip("phonenumbers", reason="phonenumberslite is not installed")
    masker = build_masker(PrivacyConfig(mask=("phone",), regions=("US", "DE")))
    text = "call +44 20 7031 3000, (212) 555-2368 or 030 901820; 5821=1258, in 1984 13 of 2000"
    assert masker.text(text) == "call [phone], [phone] or [phone]; 5821=1258, in 1984 13 of 2000"
    only_plus = build_masker(PrivacyConfig(mask=("phone",), regions=("US",)))
    assert only_plus.text("030 901820") == "030 901820"
    with pytest.raises(UserError, match="'USA' is no country"):
        build_masker(PrivacyConfig(mask=("phone",), regions=("USA",)))
