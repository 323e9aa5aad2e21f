"""Images and masks in the arguments of clients: as base64, or by the handle of an earlier result.

Within a conversation a skill is called with handles (`img_1`). A client of MCP holds the images
itself, so the arguments of a tool say more than those of the skill, and are brought back to
handles here.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from ...skills.errors import BadInput
from ...skills.geometry import Mask
from ...skills.images import ImageRef, ImageStore
from ...skills.skill import HANDLE_PATTERNS, describe_validation
from ...skills.wording import shorten
from .workspace import Workspace

__all__ = ["Intake", "tool_schema"]

_KINDS = {pattern: kind for kind, pattern in HANDLE_PATTERNS.items()}
_HANDLE = re.compile(r"(img|mask)_[A-Za-z0-9_-]{1,40}")
_DATA_URI = re.compile(r"data:[^,]{0,200},", re.IGNORECASE)
_HALF = 127

_IMAGE_FORM: dict[str, Any] = {
    "type": "object",
    "properties": {"data": {"type": "string"}, "mimeType": {"type": "string"}},
    "required": ["data"],
    "additionalProperties": False,
}
_MASK_FORM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "size": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
        "counts": {"type": "string"},
    },
    "required": ["size", "counts"],
    "additionalProperties": False,
}
_TOLD = {
    "image": "An image: base64 of the file, bare or as a data: URI, or the handle (img_1) of an "
    "image that an earlier call made.",
    "mask": "A mask: the handle (mask_1) of one that an earlier call made, base64 of a PNG image "
    "of its size that is white where the mask is, bare or as a data: URI, or COCO run-length "
    "encoding.",
}


def tool_schema(schema: Any) -> Any:
    """The parameters of a skill as those of a tool, whose clients have images and no handles."""
    if isinstance(schema, list):
        return [tool_schema(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if kind := _kind(schema):
        rest = {key: value for key, value in schema.items() if key not in ("type", "pattern")}
        told = f"{rest.get('description', '')} {_TOLD[kind]}".strip()
        forms = [_IMAGE_FORM, _MASK_FORM] if kind == "mask" else [_IMAGE_FORM]
        return {**rest, "description": told, "anyOf": [{"type": "string"}, *forms]}
    return {key: tool_schema(value) for key, value in schema.items()}


class Intake:
    """The images and masks of one call, under handles of its own."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.store = ImageStore()
        self.images: dict[str, ImageRef] = {}
        self.masks: dict[str, Mask] = {}

    def filled(self, schema: Mapping[str, Any], value: Any, *, name: str = "arguments") -> Any:
        """`value` with a handle wherever `schema`, the skill's own, wants one.

        Raises `BadInput` for an image or a mask that cannot be used. What does not fit the
        schema in another way is left for the skill to refuse.
        """
        if kind := _kind(schema):
            return self._take(kind, value, name) if isinstance(value, str | dict) else value
        for option in schema.get("anyOf", ()):
            if _may_hold(option, value):
                return self.filled(option, value, name=name)
        if isinstance(value, list) and isinstance(items := schema.get("items"), Mapping):
            return [self.filled(items, item, name=f"{name}.{n}") for n, item in enumerate(value)]
        if isinstance(value, dict) and isinstance(parts := schema.get("properties"), Mapping):
            return {
                key: self.filled(parts.get(key, {}), one, name=key) for key, one in value.items()
            }
        return value

    def _take(self, kind: str, value: str | dict[str, Any], name: str) -> str:
        return self._take_image(value, name) if kind == "image" else self._take_mask(value, name)

    def _take_image(self, value: str | dict[str, Any], name: str) -> str:
        held = self._held("img", value, name)
        if isinstance(held, Mask):
            raise BadInput(f"{name}: {value!r} is a mask; an image is needed here")
        ref = self.store.add(held or _bytes(value, name), name=name)
        handle = f"img_{len(self.images) + 1}"
        self.images[handle] = ref
        return handle

    def _take_mask(self, value: str | dict[str, Any], name: str) -> str:
        held = self._held("mask", value, name)
        handle = f"mask_{len(self.masks) + 1}"
        self.masks[handle] = held if isinstance(held, Mask) else self._mask(held, value, name)
        return handle

    def _mask(self, data: bytes | None, value: str | dict[str, Any], name: str) -> Mask:
        if isinstance(value, dict) and "counts" in value:
            try:
                return Mask.model_validate(value)
            except ValidationError as error:
                raise BadInput(f"{name}: {describe_validation(error)}") from error
        import numpy as np

        ref = self.store.add(data or _bytes(value, name), name=name)
        return Mask.from_array(np.asarray(self.store.image(ref).convert("L")) > _HALF)

    def _held(self, kind: str, value: str | dict[str, Any], name: str) -> bytes | Mask | None:
        """What a handle stands for; None for anything but a handle."""
        if not isinstance(value, str) or not _HANDLE.fullmatch(value):
            return None
        if (held := self._workspace.get(value)) is not None:
            return held
        known = self._workspace.known(kind)
        there = f"; there is: {', '.join(known)}" if known else ""
        raise BadInput(
            f"{name}: {value} is not here (any more){there}. Send the file, or make it anew."
        )


def _kind(schema: Mapping[str, Any]) -> str | None:
    """`image` or `mask` where a schema wants a handle of one."""
    pattern = schema.get("pattern")
    return _KINDS.get(pattern) if isinstance(pattern, str) else None


def _may_hold(option: Any, value: Any) -> bool:
    """Whether a value may be meant for this one of several schemas."""
    if not isinstance(option, Mapping):
        return False
    if _kind(option):
        return isinstance(value, str | dict)
    kinds: dict[Any, type] = {"array": list, "object": dict}
    return isinstance(value, kinds.get(option.get("type"), ()))


def _bytes(value: str | dict[str, Any], name: str) -> bytes:
    """The bytes in base64. Raises `BadInput`; no path is ever opened, and no address fetched."""
    text = value.get("data") if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise BadInput(f'{name}: an object for an image is {{"data": BASE64, "mimeType": ...}}')
    if scheme := _DATA_URI.match(text):
        if not scheme[0].lower().endswith(";base64,"):
            raise BadInput(f"{name}: of data: URIs only those in base64 are taken")
        text = text[scheme.end() :]
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadInput(
            f"{name}: {shorten(text, 40)!r} is no image; send base64 of the file itself, bare or "
            "as a data: URI, or the handle of an image that an earlier call made"
        ) from None
