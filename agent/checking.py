"""Whether a skill use fits its spec, told in words that a model can act on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from ..skills.calls import SkillProblem, SkillSpec, SkillUse
from ..skills.errors import BadConfiguration, BadSkillUse, LlavaPlusError, UnknownSkill

__all__ = ["UseChecker", "problem_of"]

_LONGEST = 400
_REMEMBERED = 4096
_known: dict[bytes, Draft202012Validator] = {}
"""Those of schemas that were checked and are sound, by their hash."""


class UseChecker:
    """Checks uses against the specs on offer."""

    def __init__(self, specs: Iterable[SkillSpec]) -> None:
        """Raises `BadConfiguration` when the schema of a spec is none."""
        self._validators = {spec.name: _validator(spec) for spec in specs}

    def check(self, use: SkillUse) -> None:
        """Raises `UnknownSkill`, or `BadSkillUse` with the first thing to correct."""
        if use.name not in self._validators:
            known = ", ".join(self._validators) or "none"
            raise UnknownSkill(f"there is no skill {use.name!r}; there is: {known}")
        try:
            error = best_match(self._validators[use.name].iter_errors(use.arguments))
        except Unresolvable as unresolvable:
            raise BadConfiguration(f"skill {use.name!r}: its schema: {unresolvable}") from None
        if error:
            raise BadSkillUse(f"{use.name}: {_describe(error)}")


def problem_of(error: LlavaPlusError) -> SkillProblem:
    """The form in which the model, or a reader of a plan or turn, is told of `error`."""
    return SkillProblem(kind=error.kind, message=error.told)


def _validator(spec: SkillSpec) -> Draft202012Validator:
    """What checks against the spec. It takes milliseconds, and turns see the same schemas again."""
    digest = hashlib.sha256(json.dumps(spec.parameters).encode()).digest()
    known = _known.get(digest)
    if known is None:
        if len(_known) >= _REMEMBERED:
            _known.clear()
        known = _known[digest] = _sound_validator(spec)
    return known


def _sound_validator(spec: SkillSpec) -> Draft202012Validator:
    try:
        Draft202012Validator.check_schema(spec.parameters)
    except SchemaError as error:
        raise BadConfiguration(
            f"skill {spec.name!r}: its parameters are no JSON schema: {error.message}"
        ) from error
    # An empty registry, because the default one fetches what a "$ref" names from the network.
    registry: Registry[Any] = Registry()
    return Draft202012Validator(spec.parameters, registry=registry)


def _describe(error: ValidationError) -> str:
    place = ".".join(str(step) for step in error.absolute_path)
    told = f"{place}: {error.message}" if place else error.message
    return told if len(told) <= _LONGEST else f"{told[:_LONGEST]}..."
