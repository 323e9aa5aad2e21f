"""Whether boxes lie within their images."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ...model.conversation import AssistantMessage, SkillMessage
from ...model.record import Record
from ...skills.calls import SkillUse
from ...skills.skill import HANDLE_PATTERNS
from .findings import Case, Check, Problem
from .images import Pictures

__all__ = ["BoxesInside"]

_NAMES = re.compile(r"box|region|area")
_IMAGE = re.compile(HANDLE_PATTERNS["image"])

Box = tuple[float, float, float, float]


class BoxesInside:
    """Boxes in calls and in findings are no larger than their image, and not empty.

    A box with a side above 1 counts as pixels, and is held against the image where its size is
    known. Which corner comes first is only certain where the spec asks for fractions.
    """

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures

    def __call__(self, case: Case) -> Iterator[Problem]:
        record = case.record
        schemas = {spec.name: spec.parameters.get("properties") or {} for spec in record.skills}
        uses: dict[str, SkillUse] = {}
        for message in record.messages:
            if isinstance(message, AssistantMessage):
                for use in message.skill_uses:
                    uses[use.id] = use
                    ours = {
                        name
                        for name, schema in schemas.get(use.name, {}).items()
                        if _asks_for_fractions(schema)
                    }
                    for name, box in _boxes(use.arguments):
                        size = self._size_of(use, record, box)
                        yield from _wrong(f"{use.name}, {name}", box, size, ordered=name in ours)
            elif isinstance(message, SkillMessage) and (asked := uses.get(message.result.id)):
                for name, box in _boxes(message.result.data):
                    size = self._size_of(asked, record, box)
                    yield from _wrong(f"the result of {asked.name}, {name}", box, size)

    def _size_of(self, use: SkillUse, record: Record, box: Box) -> tuple[int, int] | None:
        """Width and height of the image that a call names, where the box makes that matter."""
        if max(box) <= 1:
            return None
        values = (value for value in use.arguments.values() if isinstance(value, str))
        handle = next((value for value in values if _IMAGE.match(value)), "")
        file = record.images.get(handle)
        return self._pictures.size(file) if file is not None else None


def _boxes(values: Any, name: str = "") -> Iterator[tuple[str, Box]]:
    """Every list of four numbers under a name that is one of a box."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _boxes(value, str(key))
    elif isinstance(values, list | tuple):
        if len(values) == 4 and all(_is_number(value) for value in values):
            if _NAMES.search(name.lower()):
                yield name, (values[0], values[1], values[2], values[3])
        else:
            for value in values:
                yield from _boxes(value, name)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wrong(
    where: str, box: Box, size: tuple[int, int] | None, *, ordered: bool = False
) -> Iterator[Problem]:
    x0, y0, x1, y1 = box
    shown = list(box)
    if min(box) < 0:
        yield Problem(Check.BAD_BOX, f"{where}: {shown} leads out of the image")
    elif size and (max(x0, x1) > size[0] + 1 or max(y0, y1) > size[1] + 1):
        of = f"{size[0]} x {size[1]}"
        yield Problem(Check.BAD_BOX, f"{where}: {shown} leads out of the image, which is {of}")
    elif ordered and max(box) <= 1 and not (x0 < x1 and y0 < y1):
        yield Problem(Check.BAD_BOX, f"{where}: {shown} is empty: it needs x0 < x1 and y0 < y1")


def _asks_for_fractions(schema: Any) -> bool:
    """Whether boxes of this project, four fractions, stand anywhere in a schema."""
    if isinstance(schema, list):
        return any(_asks_for_fractions(part) for part in schema)
    if not isinstance(schema, Mapping):
        return False
    items = schema.get("items")
    four = schema.get("minItems") == schema.get("maxItems") == 4
    if four and isinstance(items, Mapping) and items.get("maximum") == 1:
        return True
    return any(_asks_for_fractions(part) for part in schema.values())
