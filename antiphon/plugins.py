"""How the `name:` of a recipe becomes a class.

Every kind of plug-in (reward component, engine, prompt source, algorithm, weight transport) is a base class
and a folder. The modules of the folder are imported, and the subclasses of the base that carry a `name` are
its built-in plug-ins: one new file adds one. A name with a colon, `my_package.rewards:Polite`, is an import
path.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any

from antiphon.errors import UserError, suggestion
from antiphon.settings import parse


def built_in(base: type, folder: str) -> dict[str, type]:
    """The named, concrete subclasses of `base` defined in the modules of the package `folder`."""
    return {name: c for module in _modules(folder) for name, c in _in_module(base, folder, module).items()}


def _modules(folder: str) -> list[str]:
    """The names of the modules of a package."""
    return [m.name for m in pkgutil.iter_modules(importlib.import_module(folder).__path__)]


def _in_module(base: type, folder: str, module: str) -> dict[str, type]:
    """The plug-ins that one module defines."""
    found = importlib.import_module(f"{folder}.{module}")
    classes = [c for c in vars(found).values() if inspect.isclass(c) and c.__module__ == found.__name__]
    fitting = [c for c in classes if issubclass(c, base) and not inspect.isabstract(c)]
    return {vars(c)["name"]: c for c in fitting if isinstance(vars(c).get("name"), str)}


def by_import_path(path: str) -> Any:
    """The object behind `package.module:attribute`.

    Raises:
        UserError: the module cannot be imported, or has no such attribute.
    """
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise UserError(f"{path!r} is no import path", remedy="write package.module:attribute")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{path!r} cannot be imported: {error}",
            remedy="install the package, or start from the folder that holds it (or set PYTHONPATH)",
        ) from error
    except AttributeError as error:
        names = [n for n in vars(importlib.import_module(module_name)) if not n.startswith("_")]
        raise UserError(
            f"{module_name!r} has no attribute {attribute!r}", remedy=suggestion(attribute, names)
        ) from error


def find(base: type, folder: str, name: str) -> Any:
    """The plug-in called `name`: a built-in of `folder`, or whatever an import path leads to.

    Raises:
        UserError: there is none; the message lists those that exist.
    """
    if ":" in name:
        return by_import_path(name)
    # Most modules are called like what they hold; all others, with what they import, need not be loaded then.
    if name in _modules(folder) and name in (found := _in_module(base, folder, name)):
        return found[name]
    known = built_in(base, folder)
    if name not in known:
        raise UserError(f"there is no {base.__name__} called {name!r}", remedy=suggestion(name, known))
    return known[name]


def configure(base: type, folder: str, section: Mapping[str, Any], where: str) -> tuple[Any, Any]:
    """The class that a section of a recipe names, and the rest of the section as its settings.

    Example:
        >>> configure(Algorithm, "learner.algorithms", {"name": "ppo", "gamma": 0.99}, "algorithm")
        (<class 'PPO'>, Config(gamma=0.99, ...))

    Raises:
        UserError: no name, no such plug-in, or a wrong setting.
    """
    options = dict(section)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise UserError(
            f"{where} has no name",
            remedy=f"set {where}.name to one of {', '.join(sorted(built_in(base, folder)))}",
        )
    plugin: Any = find(base, folder, name)
    is_fitting = inspect.isclass(plugin) and issubclass(plugin, base)
    if not is_fitting:
        raise UserError(f"{where}.name {name!r} is no {base.__name__}", remedy="name a class derived from it")
    return plugin, parse(plugin.Config, options, where)
