"""Places in an image as people write them: numbers between commas, as fractions of the image."""

from __future__ import annotations

from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from ..skills.errors import BadInput
from ..skills.geometry import Box, Corners, Point, Position
from ..skills.skill import describe_validation

__all__ = ["read_box", "read_places", "read_point"]

Place = TypeVar("Place")


def read_box(text: str) -> Box:
    """A box from `x0,y0,x1,y1`. Raises `BadInput`."""
    return _read(text, TypeAdapter(Box), "box", "0.1,0.2,0.5,0.6 (left, top, right, bottom)")


def read_point(text: str) -> Point:
    """A point from `x,y`. Raises `BadInput`."""
    return _read(text, TypeAdapter(Point), "point", "0.3,0.5 (across, down)")


def read_places(text: str) -> tuple[tuple[Corners, ...], tuple[Position, ...]]:
    """The boxes and the points of a text with spaces between them. Raises `BadInput`."""
    words = text.replace(", ", ",").split()
    points = [word for word in words if word.count(",") == 1]
    boxes = tuple(read_box(word) for word in words if word not in points)
    return boxes, tuple(read_point(word) for word in points)


def _read(text: str, adapter: TypeAdapter[Place], what: str, example: str) -> Place:
    try:
        return adapter.validate_python(tuple(text.split(",")))
    except ValidationError as error:
        raise BadInput(
            f"{text!r} is no {what}: {describe_validation(error)}; write fractions of the "
            f"image such as {example}"
        ) from error
