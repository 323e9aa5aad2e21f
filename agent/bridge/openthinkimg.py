"""The tools of OpenThinkIMG: `{image, param}` in, `{text, error_code, edited_image}` out.

`param` is text that an LMM wrote: names of things, `x="63.0" y="46.5"` in hundredths of the
image, or pixels in brackets.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from ...skills.errors import BadInput
from ...skills.peer_wire import encode_picture, tint
from .errand import Errand, Picture
from .requests import Answer, Api, find, read, union

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["TOOLS"]

_NUMBER = r"([0-9]+(?:\.[0-9]*)?)"
_POINT = re.compile(rf'x\d*\s*=\s*\\?"?\s*{_NUMBER}\\?"?\s*y\d*\s*=\s*\\?"?\s*{_NUMBER}')
_BRACKET = re.compile(r"\[([0-9.,\s]+)\]")
_CORNERS = re.compile(r"\]\s*,\s*([1-4])\s*,\s*([1-4])\s*$")
_NOTHING = "No region found in image."


class _Pictured(BaseModel):
    image: str


class _Asked(_Pictured):
    param: str


async def _ocr(errand: Errand, request: Mapping[str, Any]) -> Answer:
    picture = await errand.take(read(_Pictured, request).image)
    result = await errand.call("ocr", image=picture.handle)
    return _told(str([line["text"] for line in result.data["lines"]]))


async def _grounding(errand: Errand, request: Mapping[str, Any]) -> Answer:
    asked = read(_Asked, request)
    picture = await errand.take(asked.image)
    found = await find(errand, picture, [asked.param])
    if not found:
        return _told(_NOTHING, None)
    boxes = [list(thing.box) for thing in found]
    shown = await _drawn(errand, picture, boxes=boxes)
    thousandths = ("[[" + ",".join(f"{1000 * edge:03.0f}" for edge in box) + "]]" for box in boxes)
    places = zip((thing.label for thing in found), thousandths, strict=True)
    return _told("; ".join(f"{label} {place}" for label, place in places), shown)


async def _point(errand: Errand, request: Mapping[str, Any]) -> Answer:
    asked = read(_Asked, request)
    picture = await errand.take(asked.image)
    result = await errand.call("point", image=picture.handle, labels=[asked.param])
    points = [found["point"] for found in result.data["points"]]
    if not points:
        return _told(_NOTHING, None)
    shown = await _drawn(errand, picture, points=points)
    return _told(_as_tag(points, asked.param), shown)


async def _segment_around_point(errand: Errand, request: Mapping[str, Any]) -> Answer:
    asked = read(_Asked, request)
    points = _points(asked.param)
    picture = await errand.take(asked.image)
    result = await errand.call("segment", image=picture.handle, points=points)
    shown = tint(picture.image, union(errand.masks(result), picture))
    return _told("Segmentation completed.", shown)


async def _horizontal_line(errand: Errand, request: Mapping[str, Any]) -> Answer:
    asked = read(_Asked, request)
    lines = [[0, y, 1, y] for _, y in _points(asked.param)]
    shown = await _drawn(errand, await errand.take(asked.image), lines=lines)
    return _told("Line drawn successfully.", shown)


async def _vertical_line(errand: Errand, request: Mapping[str, Any]) -> Answer:
    asked = read(_Asked, request)
    lines = [[x, 0, x, 1] for x, _ in _points(asked.param)]
    shown = await _drawn(errand, await errand.take(asked.image), lines=lines)
    return _told("Line drawn successfully.", shown)


async def _drawline(errand: Errand, request: Mapping[str, Any]) -> Answer:
    asked = read(_Asked, request)
    picture = await errand.take(asked.image)
    x0, y0, x1, y1 = _box(asked.param, picture)
    ends = _CORNERS.search(asked.param)
    if not ends:
        raise BadInput(f"{asked.param!r} does not end with two corners, from 1 to 4: ], 1, 3")
    corners = {"1": (x0, y0), "2": (x1, y0), "3": (x1, y1), "4": (x0, y1)}
    line = [*corners[ends[1]], *corners[ends[2]]]
    return _told("Line drawn successfully.", await _drawn(errand, picture, lines=[line]))


async def _crop(errand: Errand, request: Mapping[str, Any]) -> Answer:
    asked = read(_Asked, request)
    picture = await errand.take(asked.image)
    box = _box(asked.param, picture)
    result = await errand.call("crop", image=picture.handle, box=box)
    return _told("Image cropped successfully.", errand.image(result))


TOOLS: dict[str, Api] = {
    "OCR": Api(("ocr",), _ocr),
    "grounding": Api(("detect", "draw"), _grounding),
    "Point": Api(("point", "draw"), _point),
    "point": Api(("point", "draw"), _point),
    "SegmentRegionAroundPoint": Api(("segment",), _segment_around_point),
    "DrawHorizontalLineByY": Api(("draw",), _horizontal_line),
    "DrawVerticalLineByX": Api(("draw",), _vertical_line),
    "drawline": Api(("draw",), _drawline),
    "crop": Api(("crop",), _crop),
}
"""The tools that skills can stand in for; `ZoomInSubfigure`, which asks another LMM, is not one."""

_NO_IMAGE = object()


def _told(text: str, edited: Any = _NO_IMAGE) -> Answer:
    """The answer; without `edited` it has no picture, with None one that could not be made."""
    answer: Answer = {"text": text, "error_code": 0}
    if edited is not _NO_IMAGE:
        answer["edited_image"] = None if edited is None else encode_picture(edited)
    return answer


async def _drawn(errand: Errand, picture: Picture, **marks: Sequence[Sequence[float]]) -> Image:
    return errand.image(await errand.call("draw", image=picture.handle, **marks))


def _points(param: str) -> list[list[float]]:
    """The places in `<point x="63.0" y="46.5">`, as fractions. Raises `BadInput` for none."""
    places = ([float(number) / 100 for number in pair] for pair in _POINT.findall(param))
    inside = [place for place in places if max(place) <= 1]
    if not inside:
        raise BadInput(f'{param!r} holds no point: x="63.0" y="46.5", from 0 to 100')
    return inside


def _box(param: str, picture: Picture) -> list[float]:
    """The pixels in `[x0, y0, x1, y1]` as fractions of the image, cut to it."""
    match = _BRACKET.search(param)
    numbers = [float(number) for number in re.findall(_NUMBER, match[1])] if match else []
    if len(numbers) != 4:
        raise BadInput(f"{param!r} does not begin with a box in pixels: [x0, y0, x1, y1]")
    sizes = picture.image.size * 2
    return [min(edge / size, 1.0) for edge, size in zip(numbers, sizes, strict=True)]


def _as_tag(points: Sequence[Sequence[float]], label: str) -> str:
    """Points as Molmo writes them, in hundredths of the image."""
    label = html.escape(label)
    if len(points) == 1:
        x, y = points[0]
        return f'<point x="{100 * x:.1f}" y="{100 * y:.1f}" alt="{label}">{label}</point>'
    places = " ".join(
        f'x{n}="{100 * x:.1f}" y{n}="{100 * y:.1f}"' for n, (x, y) in enumerate(points, 1)
    )
    return f'<points {places} alt="{label}">{label}</points>'
