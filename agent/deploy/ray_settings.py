"""What is deployed on Ray Serve: groups of skills, and what a replica of each may take."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ...skills.errors import BadConfiguration
from ...skills.readiness import usable_skills
from ...skills.skill import describe_validation

__all__ = ["INGRESS", "GroupSettings", "RaySettings", "read_settings", "settings_of"]

INGRESS = "ingress"
"""The deployment that speaks the worker protocol; no group can have its name."""

GroupName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,40}$")]


class GroupSettings(BaseModel):
    """One deployment: skills that share a process, and how many such processes there are.

    There are `replicas` of it, and up to `max_replicas` while more than `target` calls are under
    way for each. `memory` is what the weights in one may take, in GB; `queue` calls wait for it.
    A call whose replica died is run again by another unless `repeat` is false, which is for
    skills that change something in the world.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    skills: tuple[str, ...] = ()
    replicas: Annotated[int, Field(ge=0)] = 1
    max_replicas: Annotated[int, Field(ge=1)] | None = None
    target: Annotated[float, Field(gt=0)] = 2.0
    cpus: Annotated[float, Field(ge=0)] = 1.0
    gpus: Annotated[float, Field(ge=0)] = 0.0
    device: str | None = None
    memory: Annotated[float, Field(gt=0)] | None = None
    queue: Annotated[int, Field(ge=1)] = 64
    repeat: bool = True

    @property
    def most(self) -> int:
        """How many replicas there may be."""
        return max(self.replicas, self.max_replicas or 1)

    @property
    def place(self) -> str:
        """Where the weights are put."""
        return self.device or ("cuda" if self.gpus else "cpu")

    @model_validator(mode="after")
    def _in_order(self) -> GroupSettings:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas is {self.max_replicas}, replicas {self.replicas}")
        return self


class RaySettings(BaseModel):
    """The groups by name; one without `skills` gets all usable ones that no other has.

    With `secret_needed` the deployment does not start where no secret is set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    groups: Annotated[dict[GroupName, GroupSettings], Field(min_length=1)] = {
        "skills": GroupSettings()
    }
    secret_needed: bool = False

    @model_validator(mode="after")
    def _each_skill_once(self) -> RaySettings:
        if INGRESS in self.groups:
            raise ValueError(f"no group can be called {INGRESS!r}")
        named = [skill for group in self.groups.values() for skill in group.skills]
        if twice := sorted({skill for skill in named if named.count(skill) > 1}):
            raise ValueError(f"a skill belongs to one group: {', '.join(twice)}")
        if sum(not group.skills for group in self.groups.values()) > 1:
            raise ValueError("only one group can do without a list of skills")
        return self

    def filled(self) -> RaySettings:
        """The same with every group's skills named. Raises `BadConfiguration` where there is none.

        What is usable is asked here and now, so that every replica serves the same.
        """
        named = {skill for group in self.groups.values() for skill in group.skills}
        rest = tuple(skill for skill in usable_skills() if skill not in named)
        groups = {
            name: group if group.skills else group.model_copy(update={"skills": rest})
            for name, group in self.groups.items()
        }
        if empty := [name for name, group in groups.items() if not group.skills]:
            raise BadConfiguration(f"no skill is left for the group {empty[0]!r}")
        return self.model_copy(update={"groups": groups})


def settings_of(values: Mapping[str, Any]) -> RaySettings:
    """Settings from the arguments of a Serve config file. Raises `BadConfiguration`."""
    try:
        return RaySettings.model_validate(values)
    except ValidationError as error:
        raise BadConfiguration(f"settings for Ray: {describe_validation(error)}") from error


def read_settings(path: Path) -> RaySettings:
    """Settings from a TOML file: a table `[groups.NAME]` each. Raises `BadConfiguration`."""
    try:
        return settings_of(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, BadConfiguration) as error:
        raise BadConfiguration(f"{path}: {error}") from error
