"""What the documents point to is there, and they name nothing that is only on one machine."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FOLDERS = (
    "antiphon|reward_service|rollout|learner|cluster|recipes|benchmarks|docs|k8s|tests",
    r"py|yaml|yml|md|json|sh",
)
FILE = re.compile(rf"(?<![\w/.-])(?:{FOLDERS[0]})(?:/[\w.-]+)*/[\w-]+\.(?:{FOLDERS[1]})\b")
FOLDER = re.compile(rf"`((?:{FOLDERS[0]})(?:/[\w-]+)*/)`")
SHOWN = re.compile(r"^```python\n# (\S+)$", re.MULTILINE)
"""Files that a document shows in full; they are examples, see test_examples.py."""
FOREIGN = (
    re.compile(r"(?<![\w.:/])/(?:work|tmp|home|root|Users|mnt|opt|usr)/"),
    re.compile(r"https?://[^\s)]*(?:pypi|simple/|pythonhosted|artifactory|nexus|proxy)", re.IGNORECASE),
    re.compile(r"--(?:extra-)?index-url"),
)


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = page.read_text()
    for target in LINK.findall(text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(path.read_text()), f"{page.name} links to {target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    text = page.read_text()
    named = {*FILE.findall(text), *FOLDER.findall(text)} - set(SHOWN.findall(text))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_no_page_names_a_path_of_a_machine_or_a_registry(page: Path) -> None:
    found = [match.group(0) for pattern in FOREIGN for match in pattern.finditer(page.read_text())]
    assert found == []


def test_what_is_looked_for_is_found() -> None:
    text = "see `rollout/engines/`, learner/algorithms/ppo.py and [x](docs/a.md#b-c)\n## B: c!\n"
    assert FOLDER.findall(text) == ["rollout/engines/"]
    assert FILE.findall(text) == ["learner/algorithms/ppo.py", "docs/a.md"]
    assert LINK.findall(text) == ["docs/a.md#b-c"]
    assert anchors(text) == {"b-c"}
