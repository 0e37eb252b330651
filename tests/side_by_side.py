"""Which tests go together where several processes run them (`make test`, pytest-xdist).

All that start Ray go to one process, so that one cluster lives at a time, but for clusters in namespaces of
their own, which meet nobody. Of the others a file goes to one, so that what it sets up is set up once. The
mark `xdist_group` would not do: xdist 3.8 writes it where pytest 9.2 does not look.
"""

from functools import cache
from pathlib import Path
from typing import Any

import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    root = config.rootpath

    class SideBySide(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(root / nodeid.split("::")[0])

    return SideBySide(config, log)


@cache
def scope_of(path: Path) -> str:
    """The name of what runs in one process with the tests of this file."""
    text = path.read_text()
    return "ray" if "pytest.mark.ray" in text and "why_not_isolated" not in text else str(path)
