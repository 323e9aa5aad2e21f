"""Several dispatchers as one: each use goes to whichever offers the skill."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from ..skills.calls import SkillResult, SkillSpec, SkillUse
from ..skills.errors import BadConfiguration, UnknownSkill
from .call_scope import CallScope
from .checking import problem_of
from .dispatcher import Dispatcher

__all__ = ["JoinedDispatcher"]


class JoinedDispatcher:
    """The dispatchers `parts`, each under the words by which it is named in errors."""

    def __init__(self, parts: Mapping[str, Dispatcher]) -> None:
        self._parts = dict(parts)
        self._owners: dict[str, str] = {}

    async def specs(self) -> list[SkillSpec]:
        """Every skill on offer. Raises `BadConfiguration` when two parts offer one name."""
        listed = await asyncio.gather(*(part.specs() for part in self._parts.values()))
        owners: dict[str, str] = {}
        for part, specs in zip(self._parts, listed, strict=True):
            for spec in specs:
                if (other := owners.setdefault(spec.name, part)) != part:
                    raise BadConfiguration(f"{other} and {part} both offer a skill {spec.name!r}")
        self._owners = owners
        return [spec for specs in listed for spec in specs]

    async def dispatch(self, use: SkillUse, scope: CallScope) -> SkillResult:
        """Run one use; see `Dispatcher`."""
        if use.name not in self._owners:
            await self.specs()
        if use.name not in self._owners:
            known = ", ".join(self._owners) or "none"
            unknown = UnknownSkill(f"there is no skill {use.name!r}; there is: {known}")
            return SkillResult(id=use.id, name=use.name, error=problem_of(unknown))
        part = self._parts[self._owners[use.name]]
        return await part.dispatch(use, scope)

    async def aclose(self) -> None:
        """Close every part."""
        await asyncio.gather(*(part.aclose() for part in self._parts.values()))
