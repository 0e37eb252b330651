"""What makes two samples the same to a component: the keys of the cache and of requests in flight.

A key is the SHA-256 of the component (name, version, options, source) and of what it sees of the sample. The
guard makes keys; nobody reads anything out of them.
"""

import hashlib
import inspect
import json
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from antiphon.plugins import by_import_path
from reward_service.reward import Reward
from reward_service.types import Sample

CONTENT = ("prompt", "completion", "reference", "metadata", "num_tokens", "is_truncated", "repeat")
"""What a component may look at. Not the id, the group and the policy version: they say where a sample comes
from."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a component is, as far as its scores depend on it."""

    name: str
    version: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    """With all defaults filled in, so that another default makes another component. JSON-able."""
    source: str = ""
    """Digest of the file it comes from, where nobody raises a version when that changes."""
    sees: tuple[str, ...] = CONTENT
    """The fields of a sample that its scores depend on."""
    is_comparative: bool = False
    """The score of a sample depends on the other samples of its group and repeat: such a group is scored as a
    whole, and is the same only as a whole."""

    def keys_of(self, samples: Sequence[Sample]) -> dict[str, str]:
        """The key of each sample, by its id."""
        own = {s.id: self._key(s) for s in samples}
        return self._among_neighbours(samples, own) if self.is_comparative else own

    def companions(self, chosen: Sequence[Sample], samples: Sequence[Sample]) -> list[Sample]:
        """The samples that must be sent so that `chosen` get their scores, in the order of `samples`."""
        if not self.is_comparative:
            return list(chosen)
        wanted = {_group_of(s) for s in chosen}
        return [s for s in samples if _group_of(s) in wanted]

    def units(self, samples: Sequence[Sample]) -> list[list[Sample]]:
        """What can be sent or left out only together."""
        if not self.is_comparative:
            return [[s] for s in samples]
        groups: defaultdict[tuple[str, ...], list[Sample]] = defaultdict(list)
        for s in samples:
            groups[_group_of(s)].append(s)
        return list(groups.values())

    @cached_property
    def _component(self) -> "hashlib._Hash":
        """The hash of the component, to be continued with a sample."""
        named = [self.name, self.version, dict(self.options), self.source, self.sees]
        return hashlib.sha256(json.dumps(named, sort_keys=True, default=str).encode())

    def _key(self, sample: Sample) -> str:
        try:
            seen = json.dumps([getattr(sample, name) for name in self.sees], sort_keys=True, default=_mapping)
        except (TypeError, ValueError, RecursionError):
            return uuid.uuid4().hex  # Metadata that are no JSON cannot be recognised again.
        continued = self._component.copy()
        continued.update(seen.encode())
        return continued.hexdigest()

    def _among_neighbours(self, samples: Sequence[Sample], own: Mapping[str, str]) -> dict[str, str]:
        """Keys that also say who is in the group, and which of several identical members is meant."""
        keys: dict[str, str] = {}
        for members in self.units(samples):
            group = sorted(own[s.id] for s in members)
            seen: Counter[str] = Counter()
            for s in members:
                place = [own[s.id], seen[own[s.id]], group]
                keys[s.id] = hashlib.sha256(json.dumps(place).encode()).hexdigest()
                seen[own[s.id]] += 1
        return keys


def _group_of(sample: Sample) -> tuple[str, ...]:
    """Samples that are compared with each other have the same one; a sample without group is alone."""
    return (sample.group, str(sample.repeat)) if sample.group else ("", str(sample.repeat), sample.id)


def _mapping(value: object) -> dict[str, Any]:
    """Metadata may be any mapping; JSON knows only one."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{value!r} is no JSON")


def identity_of(reward: Reward, name: str, *, is_comparative: bool = False) -> Identity:
    """The identity of a component that was built from its `name` in a recipe.

    A component from an import path counts as another one whenever the file that defines it changes;
    files that it imports in turn are not looked at.
    """
    outside = by_import_path(name) if ":" in name else None
    return Identity(
        name=name,
        version=reward.version,
        options=reward.config.model_dump(mode="json"),
        source=_source_digest(outside),
        sees=CONTENT + _asked_for(outside),
        is_comparative=is_comparative,
    )


def together(parts: Mapping[str, Identity]) -> Identity:
    """The identity of components that are asked together (bundle.Bundle), by label, in their order."""
    options = {
        str(i): [label, p.name, p.version, p.options, p.source] for i, (label, p) in enumerate(parts.items())
    }
    return Identity(name="+".join(parts), options=options, sees=_union(p.sees for p in parts.values()))


def _union(fields: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted({name for names in fields for name in names}))


def _source_digest(code: object) -> str:
    """Digest of the file that defines it; empty for what was not written in Python."""
    try:
        file = inspect.getsourcefile(code)  # type: ignore[arg-type]
    except TypeError:
        return ""
    return "" if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _asked_for(code: object) -> tuple[str, ...]:
    """The fields beyond CONTENT that a function has as parameters. A class has promised to do without."""
    if not inspect.isfunction(code):
        return ()
    parameters = inspect.signature(code).parameters
    return tuple(f.name for f in fields(Sample) if f.name in parameters and f.name not in CONTENT)
