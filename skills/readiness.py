"""Whether an installed skill could work now: its packages and weights, asked without loading."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, runtime_checkable

from .backends import BACKENDS, Backend, Licence
from .discovery import InstalledSkill, installed_skills
from .errors import BadConfiguration
from .settings import backend_name, create_backend
from .weights import Fetchable, HasWeights

__all__ = ["Readiness", "readiness", "usable_skills"]


@runtime_checkable
class NeedsMore(Protocol):
    """A backend that needs something made before it can work."""

    def lacks(self) -> str:
        """What that is and how it is made; empty when it is there."""


@dataclass(frozen=True)
class Readiness:
    """What a skill runs on, and what it lacks; `lacks` is empty when it could work now."""

    backend: str = ""
    licence: Licence | None = None
    weights: Fetchable | None = None
    lacks: str = ""


def readiness(skill: str) -> Readiness:
    """Look at the backend that the settings name for `skill`; a plugin that has none is ready.

    Raises `BadConfiguration` when the settings do not fit.
    """
    if skill not in BACKENDS:
        return Readiness()
    name = backend_name(skill)
    backend: Backend = create_backend(skill)
    weights = backend.weights if isinstance(backend, HasWeights) else None
    lacks = ""
    if missing := [module for module in backend.packages.modules if find_spec(module) is None]:
        lacks = f"{', '.join(missing)} is missing: pip install llava-plus[{backend.packages.extra}]"
    elif weights and not weights.is_present():
        lacks = _absent(weights, skill)
    elif isinstance(backend, NeedsMore):
        lacks = backend.lacks()
    return Readiness(name, backend.licence, weights, lacks)


def _absent(weights: Fetchable, skill: str) -> str:
    if Path(weights.name).is_dir():
        return f"the folder {weights.name} does not hold the whole model"
    return f"its weights {weights.name} are not here: llava-plus skills pull {skill}"


def usable_skills() -> dict[str, InstalledSkill]:
    """The installed skills that are on offer when none is named.

    One that still lacks its weights is not; one whose settings or packages are wrong is, so that
    this is told and not passed over.
    """
    return {name: skill for name, skill in installed_skills().items() if _is_usable(name)}


def _is_usable(name: str) -> bool:
    try:
        ready = readiness(name)
    except BadConfiguration:
        return True
    return not (ready.weights and ready.lacks)
