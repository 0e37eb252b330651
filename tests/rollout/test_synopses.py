"""The script that makes the data of the summary recipe."""

import importlib.util
from pathlib import Path

spec = importlib.util.spec_from_file_location(
    "make_synopses", Path(__file__).parents[2] / "recipes" / "make_synopses.py"
)
assert spec is not None
assert spec.loader is not None
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)

LONG = " Bash is an sh-compatible command language interpreter that executes\n commands from the input.\n"
MORE = " .\n It also has:\n  - useful features\n  - of the Korn and C shells\n .\n It is free software.\n"


def test_control_lines_become_paragraphs_and_lists() -> None:
    assert script.description(" one\n two\n .\n three:\n  - a\n  - b\n four\n .\n .\n five") == (
        "one two\n\nthree:\n- a\n- b\nfour\n\nfive"
    )


def test_packages_become_rows_and_repetitions_are_left_out() -> None:
    listing = (
        f"bash\nGNU Bourne Again SHell\n{LONG}{MORE}\n"
        f"bash-again\nanother synopsis\n{LONG}{MORE}\n"
        f"short\na short one\n too short\n\n"
        f"old\ntransitional package for bash\n{MORE}{LONG}{LONG}\n"
        f"nothing\n\n\n"
    )
    (row,) = script.synopses(listing)
    assert (row["package"], row["reference"]) == ("bash", "GNU Bourne Again SHell")
    assert row["prompt"].startswith("Bash is an sh-compatible command language interpreter that executes com")
