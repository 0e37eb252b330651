"""The commands that people are told to type are ones that kubectl takes."""

import re
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("docs/kubernetes.md", "k8s/README.md")
VERBS = (("create", "secret", "generic"), ("get",), ("apply",), ("delete",), ("logs",), ("exec",), ("cp",),
         ("port-forward",), ("kustomize",), ("describe",), ("wait",))  # fmt: skip


def commands() -> list[str]:
    """What begins with kubectl, in the text and in blocks, up to a pipe, a comment or the end."""
    texts: list[str] = []
    for page in PAGES:
        text = (ROOT / page).read_text()
        texts += [" ".join(quoted.split()) for quoted in re.findall(r"`(kubectl [^`]+)`", text)]
        for block in re.findall(r"^ *```\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE):
            lines = re.sub(r"\$\((?!kubectl)[^)]*\)", "X", block.replace("\\\n", " ")).splitlines()
            texts += [found for line in lines for found in re.findall(r"kubectl [^|)]+", line)]
    inner = [found for text in texts for found in re.findall(r"\$\((kubectl [^)]+)\)", text)]
    plain = [re.sub(r"\$\([^)]*\)", "X", text) for text in texts]
    return sorted({re.split(r" #| \| ", text)[0].strip() for text in [*plain, *inner]})


def faults(command: str) -> list[str]:
    """Flags that kubectl does not know, or a verb that is not in VERBS."""
    words = [w for w in shlex.split(command)[1:] if w != "&"]
    words = words[: words.index("--")] if "--" in words else words
    plain = [w for w in words if w != "-n" and not w.startswith("-") and w not in ("antiphon", "monitoring")]
    verb = next((v for v in VERBS if tuple(plain[: len(v)]) == v or v[0] in plain[:2]), None)
    if verb is None:
        return [f"{command}: no known verb"]
    flags = [w.partition("=")[0] for w in words if w.startswith("-") and w != "-"]
    return [f"{command}: {flag}" for flag in flags if not knows(verb, flag)]


def knows(verb: tuple[str, ...], flag: str) -> bool:
    # Of flags with one dash, several may stand together: -it.
    each = [f"-{letter}" for letter in flag[1:]] if re.fullmatch(r"-[a-zA-Z]+", flag) else [flag]
    return all(
        re.search(rf"(?<![\w-]){re.escape(f)}[,=\s]", help_of(*verb) + help_of("options")) for f in each
    )


@cache
def help_of(*words: str) -> str:
    asked = ["kubectl", *words] if words == ("options",) else ["kubectl", *words, "--help"]
    return subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True).stdout


def test_there_are_commands_to_look_at():
    assert len(commands()) > 15


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl")
def test_kubectl_knows_every_verb_and_flag():
    """Mutation: `exec -it -l antiphon/role=head` has a flag that exec does not know."""
    assert [fault for command in commands() for fault in faults(command)] == []
    assert faults("kubectl -n antiphon exec -it -l antiphon/role=head -- bash")
