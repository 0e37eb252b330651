"""Packages and files that only some components need: looked for early, loaded late.

For components whose library is in an extra of the package. Knows no component.
"""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from antiphon.errors import UserError

REMEDY = "pip install 'antiphon[rewards]'"


def require(module: str, component: str, remedy: str = REMEDY) -> None:
    """Refuses where a package is missing, without importing it: for constructors.

    Raises:
        UserError: the package that the component needs is not installed.
    """
    if importlib.util.find_spec(module) is None:
        raise UserError(
            f"the component {component} needs the package {module}, which is not installed", remedy=remedy
        )


def imported(module: str, component: str, remedy: str = REMEDY) -> Any:
    """The module of an optional package: for `start`.

    Raises:
        UserError: the package that the component needs is not installed.
    """
    require(module.partition(".")[0], component, remedy)
    return importlib.import_module(module)


def existing_file(path: Path, setting: str) -> Path:
    """The path with `~` expanded.

    Raises:
        UserError: there is no such file; `setting` says which key of the recipe names it.
    """
    path = path.expanduser()
    if not path.is_file():
        raise UserError(
            f"{setting} is {path}, and there is no such file",
            remedy="correct the path; a relative one counts from where antiphon is started",
        )
    return path
