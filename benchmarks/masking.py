"""What masking costs: characters in a second of one process, by kind of personal data.

    python -m benchmarks.masking

The text is prose with numbers in it, 2 000 characters at a time, with one thing of each kind in every tenth.
"""

import time

from antiphon.personal_data import FINDERS
from antiphon.privacy import Masker, PrivacyConfig, build_masker

PROSE = "In 1984 the 13 foxes of Oak Lane jumped over 27 dogs; nobody counted twice, and 5821 were left. "
FOUND = "Write to anna@example.org, +44 20 7031 3000, 4111 1111 1111 1111, 192.168.17.4. "
NUM_CHARACTERS = 2_000
SECONDS = 2.0


def texts() -> list[str]:
    """Ten texts, of which one holds personal data."""
    plain = (PROSE * 40)[:NUM_CHARACTERS]
    return [plain] * 9 + [(FOUND + plain)[:NUM_CHARACTERS]]


def rate(masker: Masker) -> float:
    """Characters in a second of processor time."""
    num_characters, start_s = 0, time.process_time()
    while time.process_time() - start_s < SECONDS:
        for text in texts():
            masker.text(text)
            num_characters += len(text)
    return num_characters / (time.process_time() - start_s)


def main() -> None:
    for mask in (*((kind,) for kind in FINDERS), ("phone",), (*FINDERS, "phone")):
        found = rate(build_masker(PrivacyConfig(mask=mask)))
        print(f"{', '.join(mask):40} {found / 1e6:8.2f} million characters/s")


if __name__ == "__main__":
    main()
