"""From what a person drew on the canvas to marks in an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ...skills.errors import BadInput
from ...skills.geometry import Corners, Mask, Position

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Drawn", "Kind", "read_drawing"]

_OPAQUE = 64
"""Of 255: fainter pixels are the soft edge of a stroke."""


class Kind(StrEnum):
    """What a drawing stands for."""

    BOX = "box"
    POINT = "point"
    AREA = "area"


@dataclass(frozen=True)
class Drawn:
    """Marks for the newest image, as fractions of it."""

    boxes: tuple[Corners, ...] = ()
    points: tuple[Position, ...] = ()
    masks: tuple[Mask, ...] = ()


def read_drawing(canvas: Mapping[str, Any] | None, kind: Kind, size: tuple[int, int]) -> Drawn:
    """The marks that the strokes on a canvas stand for, in an image of `size` (width, height).

    A box is the bounds of all that was drawn, a point the middle of them, an area the strokes and
    what they enclose. Raises `BadInput` when everything is painted, which marks nothing.
    """
    strokes = _strokes(canvas)
    if strokes is None or not strokes.any():
        return Drawn()
    if kind is Kind.AREA:
        return Drawn(masks=(_area(strokes, size),))
    bounds = _bounds(strokes)
    if kind is Kind.BOX:
        return Drawn(boxes=(bounds,))
    middle = Position(round((bounds.x0 + bounds.x1) / 2, 3), round((bounds.y0 + bounds.y1) / 2, 3))
    return Drawn(points=(middle,))


def _strokes(canvas: Mapping[str, Any] | None) -> NDArray[np.bool_] | None:
    """The pixels (height, width) that carry paint in any layer, each an RGBA image of Pillow."""
    import numpy as np

    strokes: NDArray[np.bool_] | None = None
    for layer in (canvas or {}).get("layers") or ():
        opacity = np.asarray(layer.convert("RGBA").getchannel("A")) >= _OPAQUE
        strokes = opacity if strokes is None else strokes | opacity
    return strokes


def _bounds(strokes: NDArray[np.bool_]) -> Corners:
    import numpy as np

    rows, columns = np.flatnonzero(strokes.any(axis=1)), np.flatnonzero(strokes.any(axis=0))
    height, width = strokes.shape
    left, top = float(columns[0]), float(rows[0])
    # Two pixels at least, so that a dot keeps an extent when fractions are rounded.
    right, bottom = max(columns[-1] + 1.0, left + 2), max(rows[-1] + 1.0, top + 2)
    return Corners.from_pixels(left, top, right, bottom, width, height)


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
