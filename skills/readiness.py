"""Whether an installed skill could work now: its packages and weights, asked without loading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from .backends import BACKENDS, Backend, Licence
from .discovery import InstalledSkill, installed_skills, load_skill
from .errors import BadConfiguration
from .extras import Packages
from .settings import backend_name, create_backend
from .weights import Fetchable, HasWeights, missing_parts
from .wording import joined

__all__ = ["Readiness", "readiness", "usable_skills"]


@runtime_checkable
class NeedsMore(Protocol):
    """A backend that needs something made before it can work."""

    def lacks(self) -> str:
        """What that is and how it is made; empty when it is there."""


@dataclass(frozen=True)
class Readiness:
    """What a skill runs on, and what it lacks; `lacks` is empty when it could work now."""

    packages: Packages
    backend: str = ""
    licence: Licence | None = None
    weights: Fetchable | None = None
    lacks: str = ""


def readiness(skill: str) -> Readiness:
    """Look at what `skill` needs: its backend, which the settings name, and other skills'.

    Raises `BadConfiguration` when the settings do not fit.
    """
    loaded = load_skill(skill)
    others = next(filter(None, (readiness(other).lacks for other in loaded.uses)), "")
    if skill not in BACKENDS:
        return Readiness(loaded.packages, lacks=loaded.packages.lacks() or others)
    name = backend_name(skill)
    backend: Backend = create_backend(skill)
    weights = backend.weights if isinstance(backend, HasWeights) else None
    lacks = _lacks(backend, weights, skill) or others
    return Readiness(backend.packages, name, backend.licence, weights, lacks)


def _lacks(backend: Backend, weights: Fetchable | None, skill: str) -> str:
    if lacking := backend.packages.lacks():
        return lacking
    if weights and (absent := missing_parts(weights)):
        return _absent(absent, skill)
    return backend.lacks() if isinstance(backend, NeedsMore) else ""


def _absent(weights: Sequence[Fetchable], skill: str) -> str:
    names = [part.name for part in weights]
    folders = [name for name in names if Path(name).is_dir()]
    told = [f"the folder {folder} does not hold the whole model" for folder in folders]
    if elsewhere := [name for name in names if name not in folders]:
        told.append(f"its weights {joined(elsewhere)} are not here: llava-plus skills pull {skill}")
    return "; ".join(told)


def usable_skills() -> dict[str, InstalledSkill]:
    """The installed skills that are on offer when none is named.

    One that lacks packages, weights or a setting is not; one whose settings are wrong is, so that
    this is told and not passed over.
    """
    return {name: skill for name, skill in installed_skills().items() if _is_usable(name)}


def _is_usable(name: str) -> bool:
    try:
        return not readiness(name).lacks
    except BadConfiguration:
        return True
