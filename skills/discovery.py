"""Finding installed skills: the entry-point group `llava_plus.skills`, loaded by name when used."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from .errors import BadConfiguration, DuplicateSkill, UnknownSkill
from .skill import Skill

__all__ = ["GROUP", "OWN_PACKAGE", "InstalledSkill", "installed_skills", "load_skill"]

GROUP = "llava_plus.skills"
OWN_PACKAGE = "llava-plus"


@dataclass(frozen=True)
class InstalledSkill:
    """A skill that some installed package offers; nothing of it is imported yet."""

    name: str
    package: str
    entry_point: EntryPoint

    def load(self) -> Skill:
        """Import and create the skill. Raises `BadConfiguration` when it is not one."""
        try:
            loaded = self.entry_point.load()
        except Exception as error:  # a plugin may fail in any way; it must be named
            raise BadConfiguration(
                f"skill {self.name!r} of package {self.package!r} cannot be imported "
                f"({self.entry_point.value}): {type(error).__name__}: {error}"
            ) from error
        if not (isinstance(loaded, type) and issubclass(loaded, Skill)):
            raise BadConfiguration(
                f"skill {self.name!r} of package {self.package!r}: "
                f"{self.entry_point.value} is not a subclass of Skill"
            )
        skill = loaded()
        if skill.name != self.name:
            raise BadConfiguration(
                f"package {self.package!r} registers skill {self.name!r}, "
                f"but {self.entry_point.value} calls itself {skill.name!r}"
            )
        return skill


@cache
def installed_skills() -> dict[str, InstalledSkill]:
    """Every skill on offer on this machine, by name, in alphabetical order.

    Raises `DuplicateSkill` when two packages offer one name.
    """
    found: dict[str, InstalledSkill] = {}
    for entry_point in entry_points(group=GROUP):
        package = entry_point.dist.name if entry_point.dist else "an unknown package"
        other = found.get(entry_point.name)
        if other and (other.package, other.entry_point.value) != (package, entry_point.value):
            raise DuplicateSkill(
                f"skill {entry_point.name!r} is offered by both {other.package!r} and "
                f"{package!r}: uninstall one of them"
            )
        found[entry_point.name] = InstalledSkill(entry_point.name, package, entry_point)
    return dict(sorted(found.items()))


def load_skill(name: str) -> Skill:
    """Load one installed skill by name. Raises `UnknownSkill` or `BadConfiguration`."""
    skills = installed_skills()
    if name not in skills:
        known = ", ".join(skills) or "none"
        raise UnknownSkill(f"no skill {name!r} is installed; installed: {known}")
    return skills[name].load()
