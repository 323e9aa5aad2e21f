"""From what a person drew on the canvas, or wrote in numbers, to marks in an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ...skills.errors import BadInput
from ...skills.geometry import Corners, Mask, Position
from ..places import read_places

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Drawing", "Drawn", "Kind", "read_marks"]

_OPAQUE = 64
"""Of 255: fainter pixels are the soft edge of a stroke."""

_GAP = 0.015
"""Of the canvas's longer side: strokes that stand closer are one mark, as a box drawn in four."""


class Kind(StrEnum):
    """What a drawing stands for."""

    BOX = "box"
    POINT = "point"
    AREA = "area"


@dataclass(frozen=True)
class Drawing:
    """What a person gives to mark an image by: strokes, what they stand for, and numbers."""

    canvas: Mapping[str, Any] | None = None
    kind: Kind = Kind.BOX
    places: str = ""


@dataclass(frozen=True)
class Drawn:
    """Marks for the newest image, as fractions of it: drawn ones from top to bottom, others."""

    boxes: tuple[Corners, ...] = ()
    points: tuple[Position, ...] = ()
    masks: tuple[Mask, ...] = ()


def read_marks(drawing: Drawing, size: tuple[int, int] | None) -> Drawn:
    """The marks of a drawing in an image of `size` (width, height), if there is one.

    Strokes apart from each other are a box each, the bounds of what was drawn, or a point, the
    middle of it; an area is all strokes and what they enclose. Raises `BadInput` when everything
    is painted, which marks nothing, and for numbers that are no places.
    """
    drawn = _read_strokes(drawing, size) if size else Drawn()
    boxes, points = read_places(drawing.places)
    return replace(drawn, boxes=drawn.boxes + boxes, points=drawn.points + points)


def _read_strokes(drawing: Drawing, size: tuple[int, int]) -> Drawn:
    strokes = _strokes(drawing.canvas)
    if strokes is None or not strokes.any():
        return Drawn()
    if drawing.kind is Kind.AREA:
        return Drawn(masks=(_area(strokes, size),))
    gap = max(2, round(_GAP * max(strokes.shape)))
    bounds = [_corners(found, strokes.shape) for found in _apart(strokes, gap)]
    if drawing.kind is Kind.BOX:
        return Drawn(boxes=tuple(bounds))
    return Drawn(points=tuple(_middle(of) for of in bounds))


def _strokes(canvas: Mapping[str, Any] | None) -> NDArray[np.bool_] | None:
    """The pixels (height, width) that carry paint in any layer, each an RGBA image of Pillow."""
    import numpy as np

    strokes: NDArray[np.bool_] | None = None
    for layer in (canvas or {}).get("layers") or ():
        opacity = np.asarray(layer.convert("RGBA").getchannel("A")) >= _OPAQUE
        strokes = opacity if strokes is None else strokes | opacity
    return strokes


def _apart(
    strokes: NDArray[np.bool_], gap: int, left: int = 0, top: int = 0
) -> Iterator[tuple[int, int, int, int]]:
    """Bounds (left, top, right, bottom) of each part around which a way of `gap` pixels is free."""
    rows, columns = _runs(strokes, 1, gap), _runs(strokes, 0, gap)
    if len(rows) == len(columns) == 1:
        (first, last), (start, end) = rows[0], columns[0]
        yield left + start, top + first, left + end, top + last
        return
    for first, last in rows:
        for start, end in columns:
            yield from _apart(strokes[first:last, start:end], gap, left + start, top + first)


def _runs(strokes: NDArray[np.bool_], axis: int, gap: int) -> list[tuple[int, int]]:
    """Start and end of each stretch with paint, seen along an axis, and no wider gap in it."""
    import numpy as np

    places = np.flatnonzero(strokes.any(axis=axis))
    stretches = np.split(places, np.flatnonzero(np.diff(places) > gap) + 1)
    return [(int(found[0]), int(found[-1]) + 1) for found in stretches if found.size]


def _corners(bounds: tuple[int, int, int, int], shape: tuple[int, ...]) -> Corners:
    (left, top, right, bottom), (height, width) = bounds, shape
    # Two pixels at least, so that a dot keeps an extent when fractions are rounded.
    right, bottom = max(right, left + 2), max(bottom, top + 2)
    return Corners.from_pixels(left, top, right, bottom, width, height)


def _middle(box: Corners) -> Position:
    return Position(round((box.x0 + box.x1) / 2, 3), round((box.y0 + box.y1) / 2, 3))


def _area(strokes: NDArray[np.bool_], size: tuple[int, int]) -> Mask:
    import numpy as np
    from PIL import Image

    filled = Image.fromarray(~_reachable(~strokes)).resize(size, Image.Resampling.NEAREST)
    mask = Mask.from_array(np.asarray(filled))
    if mask.area == 1:
        raise BadInput("the whole image is painted: paint only the area that is meant")
    return mask


def _reachable(free: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The free pixels to which a way leads from beyond the edge, over free ones only.

    Swept line by line in all four directions until nothing changes; a drawn outline takes two or
    three rounds.
    """
    import numpy as np

    around = np.pad(free, 1, constant_values=True)
    reached = np.zeros_like(around)
    reached[0] = True
    before = -1
    while (count := int(reached.sum())) != before:
        before = count
        for way, open_to in (
            (reached, around),
            (reached[::-1], around[::-1]),
            (reached.T, around.T),
            (reached.T[::-1], around.T[::-1]),
        ):
            for line in range(1, len(way)):
                way[line] |= way[line - 1] & open_to[line]
    return reached[1:-1, 1:-1]
