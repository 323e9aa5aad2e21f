"""Which backend serves a skill, and with which options: a TOML file and the environment.

    [skills.detect]
    backend = "opencv"      # or LLAVA_PLUS_DETECT_BACKEND=opencv
    threads = 2             # an option of that backend

The file is the one that LLAVA_PLUS_CONFIG names, else ./llava-plus.toml if it is there.
"""

from __future__ import annotations

import difflib
import inspect
import os
import pkgutil
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .backends import BACKENDS
from .discovery import OWN_PACKAGE, installed_skills
from .errors import BadConfiguration
from .skill import describe_validation

__all__ = [
    "CONFIG_VARIABLE",
    "backend_name",
    "backend_variable",
    "check_settings",
    "configurable_skills",
    "create_backend",
    "read_config",
    "settings_in_force",
    "skill_settings",
    "unknown_name",
]

CONFIG_VARIABLE = "LLAVA_PLUS_CONFIG"
DEFAULT_FILE = "llava-plus.toml"


def create_backend(skill: str) -> Any:
    """Import and create the backend that the settings name for `skill`; nothing is loaded yet.

    Raises `BadConfiguration` when a name, an option or a package does not fit.
    """
    name, settings = _chosen(skill)
    try:
        backend = pkgutil.resolve_name(BACKENDS[skill][name])
    except ImportError as error:
        raise BadConfiguration(
            f"backend {name!r} of the skill {skill!r} needs a package that is missing: {error}"
        ) from error
    options = inspect.signature(backend).parameters
    for key in settings:
        if key not in options:
            where = f"setting of the backend {name!r} in [skills.{skill}]"
            raise BadConfiguration(unknown_name(where, key, ["backend", *options]))
    try:
        return backend(**settings)
    except ValidationError as error:
        told = describe_validation(error)
        raise BadConfiguration(f"[skills.{skill}] does not fit {name!r}: {told}") from error
    except (TypeError, ValueError) as error:
        raise BadConfiguration(f"[skills.{skill}] does not fit {name!r}: {error}") from error


def backend_name(skill: str) -> str:
    """The backend that the settings name for `skill`. Raises `BadConfiguration`."""
    return _chosen(skill)[0]


def settings_in_force(*skills: str) -> dict[str, dict[str, Any]]:
    """What the settings say for each of the skills, the name of its backend included, if any.

    Raises `BadConfiguration`.
    """
    found = {}
    for skill in skills:
        name, options = _chosen(skill) if skill in BACKENDS else ("", skill_settings(skill))
        found[skill] = {"backend": name, **options}
    return found


def _chosen(skill: str) -> tuple[str, dict[str, Any]]:
    """The name of the backend, and its options."""
    backends, settings = BACKENDS[skill], skill_settings(skill)
    name = settings.pop("backend", next(iter(backends)))
    if name not in backends:
        raise BadConfiguration(unknown_name(f"backend of the skill {skill!r}", name, backends))
    return name, settings


def skill_settings(skill: str) -> dict[str, Any]:
    """The settings of one skill. Raises `BadConfiguration` when the file cannot be read."""
    settings = dict(_read_skills().get(skill, {}))
    override = os.environ.get(backend_variable(skill))
    if override and override != settings.get("backend"):
        return {"backend": override}  # options in the file were meant for another backend
    return settings


def backend_variable(skill: str) -> str:
    """The environment variable that names the backend of `skill`."""
    return f"LLAVA_PLUS_{skill.upper().replace('-', '_')}_BACKEND"


def configurable_skills() -> list[str]:
    """The skills that settings can be for: those with backends, and plugins, which may read any."""
    plugins = (name for name, skill in installed_skills().items() if skill.package != OWN_PACKAGE)
    return sorted({*BACKENDS, *plugins})


def read_config() -> tuple[Path, dict[str, Any]]:
    """The file of settings, and what is in it: nothing when there is no file and none was named.

    Raises `BadConfiguration` when it cannot be read.
    """
    path = Path(os.environ.get(CONFIG_VARIABLE) or DEFAULT_FILE)
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if os.environ.get(CONFIG_VARIABLE):
            raise BadConfiguration(f"{CONFIG_VARIABLE} names {path}, which is not there") from error
        return path, {}
    except tomllib.TOMLDecodeError as error:
        raise BadConfiguration(f"{path} is not TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfiguration(f"{path} cannot be read: {error}") from error


def check_settings() -> None:
    """Raises `BadConfiguration` when the file has settings for a skill that there is not."""
    _read_skills()


def _read_skills() -> dict[str, dict[str, Any]]:
    path, config = read_config()
    skills = config.get("skills", {})
    known = configurable_skills()
    if not isinstance(skills, dict):
        raise BadConfiguration(f"{path}: 'skills' must be a table, such as [skills.detect]")
    for name, table in skills.items():
        if name not in known:
            raise BadConfiguration(f"{path}: {unknown_name('skill with settings', name, known)}")
        if not isinstance(table, dict):
            raise BadConfiguration(f"{path}: {name!r} must be a table: [skills.{name}]")
    return skills


def unknown_name(what: str, name: object, known: Iterable[str]) -> str:
    """What to say of a name that is not among those `known`, with the one that was meant."""
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"there is no {what} called {name!r}; {hint}known: {', '.join(known)}"
