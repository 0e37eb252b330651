"""What the parts of a reward and its ensembles must agree on. Called where a Fusion is built, before any
score."""

import math
from collections import Counter
from collections.abc import Sequence

from antiphon.errors import UserError, suggestion
from reward_service.fusion.config import FusionConfig, FusionPart, is_interval


def check_parts(config: FusionConfig, parts: Sequence[FusionPart]) -> None:
    """Everything that the parts and the ensembles must agree on.

    Raises:
        UserError: an ensemble that is not declared, has no members, or wants more members than it has; an
        ensemble
            called like a component; a weight, normalisation or clip of a member; sigma of a part that
            estimates nothing, or below 0; a clip that is no interval.
        ValueError: two parts with one label.
    """
    labels = Counter(part.label for part in parts)
    if twice := [label for label, count in labels.items() if count > 1]:
        raise ValueError(f"two parts have the label {twice[0]!r}")
    for part in parts:
        _check_part(config, part)
    for name, ensemble in config.ensembles.items():
        num_members = sum(part.estimates == name for part in parts)
        if name in labels:
            raise UserError(
                f"an ensemble and a component are both called {name!r}", remedy="rename one of them"
            )
        if num_members < (ensemble.min_members or 1):
            raise UserError(
                f"the ensemble {name!r} has {num_members} members, and needs {ensemble.min_members or 1}",
                remedy=f"write estimates: {name} at components that judge it, or remove the ensemble",
            )


def _check_part(config: FusionConfig, part: FusionPart) -> None:
    name = part.estimates
    if part.sigma is not None and not (math.isfinite(part.sigma) and part.sigma > 0.0):
        raise UserError(
            f"known_sigma of {part.label!r} is {part.sigma}", remedy="write a number above 0, or leave it out"
        )
    if name is None:
        if part.clip is not None and not is_interval(part.clip):
            raise UserError(
                f"clip of {part.label!r} is {list(part.clip)}", remedy="write the lower end first"
            )
        if part.sigma is not None:
            raise UserError(
                f"{part.label!r} has a known_sigma but estimates nothing",
                remedy="write estimates: <an ensemble>",
            )
        return
    if name not in config.ensembles:
        raise UserError(
            f"{part.label!r} estimates {name!r}, which is no ensemble",
            remedy=suggestion(name, config.ensembles)
            if config.ensembles
            else f"declare ensembles: {{{name}: {{}}}}",
        )
    if (part.weight, part.normalize, part.clip) != (1.0, "none", None):
        raise UserError(
            f"{part.label!r} is a member of {name!r} and has a weight, normalisation or clip of its own",
            remedy=f"set them at the ensemble {name!r}; align: scale brings judges onto one scale",
        )
