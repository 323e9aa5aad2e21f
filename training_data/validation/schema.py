"""Whether calls fit the specs that stand in the record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ...agent.checking import UseChecker
from ...model.conversation import AssistantMessage
from ...skills.calls import SkillSpec, SkillUse
from ...skills.errors import BadConfiguration, BadSkillUse
from ...skills.wording import shorten
from .findings import Case, Check, Problem

__all__ = ["CallsFit"]

_MOST_KNOWN = 4096
_LONGEST = 400


class CallsFit:
    """Every call names a skill on offer and has arguments that its schema allows.

    Where a schema names arguments, others are refused even if it says nothing of them: no LMM can
    write them under the grammar. Schemas that many records share are compiled once.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], UseChecker] = {}

    def __call__(self, case: Case) -> Iterator[Problem]:
        specs = {spec.name: spec for spec in case.record.skills}
        for message in case.record.messages:
            if isinstance(message, AssistantMessage):
                for use in message.skill_uses:
                    yield from self._problems(use, specs)

    def _problems(self, use: SkillUse, specs: dict[str, SkillSpec]) -> Iterator[Problem]:
        spec = specs.get(use.name)
        if spec is None:
            offered = shorten(", ".join(specs) or "none", _LONGEST)
            yield Problem(Check.UNKNOWN_SKILL, f"{use.name!r} is not on offer; there is: {offered}")
            return
        try:
            self._checker(spec).check(use)
        except BadConfiguration as error:
            yield Problem(Check.BAD_SPEC, str(error))
            return
        except BadSkillUse as error:
            yield Problem(Check.BAD_ARGUMENTS, str(error))
            return
        if extra := _unnamed(use, spec.parameters):
            named = ", ".join(spec.parameters["properties"])
            told = f"{use.name}: there is no argument {', '.join(extra)}; there is: {named}"
            yield Problem(Check.BAD_ARGUMENTS, shorten(told, _LONGEST))

    def _checker(self, spec: SkillSpec) -> UseChecker:
        key = spec.name, json.dumps(spec.parameters)
        if key not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key] = UseChecker([spec])
        return self._known[key]


def _unnamed(use: SkillUse, schema: dict[str, Any]) -> list[str]:
    named = schema.get("properties")
    is_open = schema.keys() & {"additionalProperties", "patternProperties", "anyOf", "oneOf"}
    if not named or is_open:
        return []
    return [repr(name) for name in use.arguments if name not in named]
