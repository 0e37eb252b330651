"""Makes the data of recipes/summarize.yaml: descriptions of Debian packages, and their one-line synopses.

    python recipes/make_synopses.py --out synopses.jsonl

Both are written by people, and every Debian machine has some hundreds of them. One JSON object per line:
`prompt` the description, `reference` the synopsis, `package` the name.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# A description has no empty line (Debian policy 5.6.13 writes " ."), so one can stand between packages.
FORMAT = "${Package}\n${Description}\n\n"
MIN_CHARS = 120
"""Shorter descriptions say no more than their synopsis."""
MAX_CHARS = 2000
"""Longer ones are change logs and lists of contents."""
EMPTY_WORDS = ("transitional", "dummy package", "metapackage", "meta-package")
"""Of packages without content of their own."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("synopses.jsonl"), help="the file to write")
    out: Path = parser.parse_args().out
    try:
        listing = subprocess.run(
            ["dpkg-query", "--show", f"--showformat={FORMAT}"], capture_output=True, text=True, check=True
        ).stdout
    except FileNotFoundError:
        print("dpkg-query was not found: run this on Debian or Ubuntu", file=sys.stderr)
        return 1
    rows = list(synopses(listing))
    out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{len(rows)} descriptions with synopses in {out}")
    return 0


def synopses(listing: str) -> Iterator[dict[str, str]]:
    """A row per package of a listing in FORMAT; descriptions and synopses that occur again are left out."""
    seen: set[str] = set()
    for record in listing.split("\n\n"):
        package, _, rest = record.strip("\n").partition("\n")
        synopsis, _, lines = rest.partition("\n")
        text = description(lines)
        is_new = text not in seen and synopsis not in seen
        has_content = not any(word in f"{synopsis} {text}".lower() for word in EMPTY_WORDS)
        if synopsis and is_new and has_content and MIN_CHARS <= len(text) <= MAX_CHARS:
            seen |= {text, synopsis}
            yield {"prompt": text, "reference": synopsis, "package": package}


def description(lines: str) -> str:
    """Text from the lines of a control file: one space leads each, " ." is an empty line.

    Lines of a paragraph are joined; lines that are set in further keep their own line.
    """
    text, is_list = "", False
    for line in (raw.removeprefix(" ").rstrip() for raw in lines.splitlines()):
        was_list, is_list = is_list, line.startswith((" ", "\t"))
        if line == ".":
            text += "\n\n"
        elif is_list or was_list:
            text += "\n" + line.strip()
        else:
            text += ("" if not text or text.endswith("\n") else " ") + line
    return re.sub(r"\n{3,}", "\n\n", text).strip()


if __name__ == "__main__":
    sys.exit(main())
