"""Whether an installed skill could work now: its packages and weights, asked without loading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from .backends import BACKENDS, Backend, Licence
from .discovery import InstalledSkill, installed_skills, load_skill
from .errors import BadConfiguration
from .extras import Packages
from .settings import backend_name, check_settings, create_backend
from .weights import Fetchable, HasWeights, missing_parts
from .wording import joined

__all__ = ["Readiness", "lacks_of", "readiness", "usable_skills", "with_used"]


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
    own = _by_itself(skill)
    others = [other for other in with_used(skill) if other != skill]
    return replace(own, lacks=own.lacks or _first_lack(others))


def lacks_of(skill: str) -> str:
    """What `skill` lacks, which may be that it is not installed. Raises `BadConfiguration`."""
    return _first_lack(with_used(skill))


def with_used(*skills: str, optional: bool = False) -> list[str]:
    """The skills, each once and after those that it uses, whether these are installed or not.

    With `optional` those that it may use are among them.
    """
    begun: set[str] = set()
    found: list[str] = []

    def add(name: str) -> None:
        if name not in begun:
            begun.add(name)
            for other in _used(name, optional):
                add(other)
            found.append(name)

    for skill in skills:
        add(skill)
    return found


def _used(name: str, optional: bool) -> tuple[str, ...]:
    if name not in installed_skills():
        return ()
    skill = load_skill(name)
    return (*skill.uses, *skill.may_use) if optional else skill.uses


def _by_itself(skill: str) -> Readiness:
    loaded = load_skill(skill)
    if skill not in BACKENDS:
        return Readiness(loaded.packages, lacks=loaded.packages.lacks())
    name = backend_name(skill)
    backend: Backend = create_backend(skill)
    weights = backend.weights if isinstance(backend, HasWeights) else None
    lacks = _lacks(backend, weights, skill)
    return Readiness(backend.packages, name, backend.licence, weights, lacks)


def _first_lack(skills: Sequence[str]) -> str:
    for skill in skills:
        if skill not in installed_skills():
            return f"the skill {skill!r} is not installed"
        if lacks := _by_itself(skill).lacks:
            return lacks
    return ""


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
    this is told and not passed over. Raises `BadConfiguration` for settings of no skill.
    """
    check_settings()
    return {name: skill for name, skill in installed_skills().items() if _is_usable(name)}


def _is_usable(name: str) -> bool:
    try:
        return not readiness(name).lacks
    except BadConfiguration:
        return True
