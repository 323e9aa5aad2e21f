"""Which arguments of a foreign tool are images, and filling them with the images themselves.

A tool of an MCP server takes images in whatever form its author chose; the LMM passes handles. An
argument is offered as the handle of an image when it is a string, or a list of strings, and

- its schema has a `contentMediaType` of images, or
- its name or its description speaks of an image, and one of them of base64 or of data URIs, or
- its name says nothing but that it is an image (`image`, `input_image`, `photos`), and its
  description nothing of paths and addresses.

The same argument is one of masks when its name has the word `mask`. It is filled with base64 of
the file, in a data: URI where the schema speaks of these.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ...skills.errors import BadSkillUse
from ...skills.geometry import Mask
from ...skills.images import ImageRef
from ...skills.skill import HANDLE_PATTERNS
from ..call_scope import CallScope
from .outputs import mask_image

__all__ = ["Slot", "filled", "slots"]

_IMAGE = frozenset("image img picture photo photograph screenshot mask".split())
_BESIDE = frozenset(
    "input source src reference ref original init base first second 1 2 base64 b64 data encoded "
    "bytes string".split()
)
_NEVER = frozenset("output return format type mime mode kind name".split())
"""Words in the names of arguments that are about an image and are none."""

_IMAGE_SAID = re.compile(rf"\b({'|'.join(sorted(_IMAGE))})s?\b", re.IGNORECASE)
_ENCODED_SAID = re.compile(r"\b(base-?64|b64|data:|data[ -]ur[il])", re.IGNORECASE)
_URI_SAID = re.compile(r"\bdata(:|[ -]ur[il])", re.IGNORECASE)
_ELSEWHERE_SAID = re.compile(r"\b(path|file ?name|ur[il]|link|address|id|identifier)s?\b", re.I)


@dataclass(frozen=True)
class Slot:
    """An argument that holds an image or a mask, or a list of them."""

    kind: Literal["image", "mask"]
    many: bool
    uri: bool
    """Whether the file goes there as a data: URI, rather than as bare base64."""

    def schema(self, whole: Mapping[str, Any]) -> dict[str, Any]:
        """What the LMM is offered in place of the argument's own schema."""
        handle = {"type": "string", "pattern": HANDLE_PATTERNS[self.kind]}
        if not self.many:
            return handle
        bounds = {key: whole[key] for key in ("minItems", "maxItems") if key in whole}
        return {"type": "array", "items": handle, **bounds}


def slots(parameters: Mapping[str, Any]) -> dict[str, Slot]:
    """The arguments that hold images or masks, by their names; `parameters` is a tidy schema."""
    found = {name: _slot(name, part) for name, part in parameters["properties"].items()}
    return {name: slot for name, slot in found.items() if slot}


def filled(
    arguments: Mapping[str, Any], slots: Mapping[str, Slot], scope: CallScope
) -> dict[str, Any]:
    """`arguments` with the files in place of the handles.

    Raises `BadSkillUse` for a handle that stands for nothing.
    """

    def encode(slot: Slot, handle: object) -> object:
        if not isinstance(handle, str):
            return handle
        known: Mapping[str, ImageRef | Mask] = scope.images if slot.kind == "image" else scope.masks
        if handle not in known:
            there = ", ".join(known) or "none"
            raise BadSkillUse(f"there is no {slot.kind} {handle!r} here; there is: {there}")
        thing = known[handle]
        data = mask_image(thing) if isinstance(thing, Mask) else scope.store.data(thing)
        media_type = "image/png" if isinstance(thing, Mask) else thing.media_type
        text = base64.b64encode(data).decode("ascii")
        return f"data:{media_type};base64,{text}" if slot.uri else text

    def fill(name: str, value: object) -> object:
        if name not in slots:
            return value
        if slots[name].many and isinstance(value, list):
            return [encode(slots[name], one) for one in value]
        return encode(slots[name], value)

    return {name: fill(name, value) for name, value in arguments.items()}


def _slot(name: str, schema: Any) -> Slot | None:
    if not isinstance(schema, Mapping):
        return None
    many = schema.get("type") == "array"
    one = schema.get("items") if many else schema
    if not isinstance(one, Mapping) or not _is_text(one):
        return None
    told = " ".join(str(part.get("description", "")) for part in (schema, one))
    words = _words(name)
    if not _is_image(words, told, one):
        return None
    uri = bool(_URI_SAID.search(told) or str(one.get("pattern", "")).startswith("^data:"))
    return Slot("mask" if "mask" in words else "image", many, uri)


def _is_text(schema: Mapping[str, Any]) -> bool:
    """Whether any text may stand there."""
    if "enum" in schema or "const" in schema:
        return False
    options = schema.get("anyOf") or schema.get("oneOf") or [schema]
    return any(isinstance(part, Mapping) and part.get("type") == "string" for part in options)


def _is_image(words: frozenset[str], told: str, schema: Mapping[str, Any]) -> bool:
    if str(schema.get("contentMediaType", "")).startswith("image/"):
        return True
    if words & _NEVER:
        return False
    if _ENCODED_SAID.search(told) or words & {"base64", "b64"}:
        return bool(words & _IMAGE or _IMAGE_SAID.search(told))
    return bool(words & _IMAGE) and words <= _IMAGE | _BESIDE and not _ELSEWHERE_SAID.search(told)


def _words(name: str) -> frozenset[str]:
    """The words of `input_image`, `inputImage` or `images`, small and in the singular."""
    parts = re.findall(r"base64|b64|[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)
    small = [part.lower() for part in parts]
    return frozenset(part[:-1] if part[:-1] in _IMAGE else part for part in small)
