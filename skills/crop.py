"""The skills that cut a part out of an image, as it is or enlarged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from . import wording
from .errors import BadSkillUse
from .geometry import Box, Corners, Point, Position
from .skill import Image, ImageArgument, Skill, SkillOutput

__all__ = ["Crop", "Part", "Zoom"]

_LEAST, _MOST = 1000, 4000
"""Pixels that the longer side of an enlarged part has at least, and at most."""
_USUAL_FACTOR = 4.0


class Part(SkillOutput):
    """A part of an image: `box` is what it shows of that, `scale` how much larger it became."""

    box: Corners
    scale: float = 1.0
    width: int
    height: int
    image: Image = Field(exclude=True, repr=False)

    def summary(self) -> str:
        """Which part it is, how much it was enlarged, and its size."""
        place, size = wording.box_text(self.box), f"{self.width} x {self.height} pixels"
        if self.scale > 1:
            return f"Enlarged {place} {self.scale:g} times: {size}."
        return f"Cut out {place}: {size}."

    def images(self) -> Iterator[tuple[str, Image]]:
        """The part."""
        yield "", self.image


class Crop(Skill):
    """Cuts out a part to the pixel."""

    name = "crop"
    description = "Cut one part out of an image by its box."
    parallel = 4

    def run(self, image: ImageArgument, box: Box) -> Part:
        """The pixels in the box, and those that its sides run through."""
        part, shown = _cut(image, box)
        return Part(box=shown, width=part.width, height=part.height, image=part)


class Zoom(Skill):
    """Enlarges a part by Lanczos resampling."""

    name = "zoom"
    description = (
        "Enlarge a part of an image, by its box or around a point, to read small print or see "
        "details."
    )
    parallel = 4

    def run(
        self,
        image: ImageArgument,
        box: Box | None = None,
        point: Point | None = None,
        factor: Annotated[float, Field(ge=1, le=50, allow_inf_nan=False)] | None = None,
    ) -> Part:
        """Enlarge a box; or what is around a point, the more so the higher `factor` is."""
        if box is not None and (point is not None or factor is not None):
            raise BadSkillUse("zoom: give a box alone, or a point with a factor, not both")
        if box is None:
            centre = point if point is not None else Position(0.5, 0.5)
            box = _around(centre, _USUAL_FACTOR if factor is None else factor)
        part, shown = _cut(image, box)
        enlarged = _resized(part)
        scale = max(enlarged.size) / max(part.size)
        return Part(
            box=shown,
            scale=round(scale, 1),
            width=enlarged.width,
            height=enlarged.height,
            image=enlarged,
        )


def _around(point: Position, factor: float) -> Corners:
    """The box with `1 / factor` of the image's sides that has the point as near its middle
    as the edges allow."""
    side = 1 / factor
    x0, y0 = (min(max(middle - side / 2, 0.0), 1 - side) for middle in point)
    return Corners(x0, y0, x0 + side, y0 + side)


def _cut(image: Image, box: Corners) -> tuple[Image, Corners]:
    from .backends import pixels

    places = pixels.places([box], image)
    shown = Corners.from_pixels(*places[0].box, *image.size)
    return pixels.crop(image, places, margin=0), shown


def _resized(part: Image) -> Image:
    from PIL.Image import Resampling

    longest = max(part.size)
    if _LEAST <= longest <= _MOST:
        return part
    scale = (_LEAST if longest < _LEAST else _MOST) / longest
    width, height = (max(1, round(side * scale)) for side in part.size)
    return part.resize((width, height), Resampling.LANCZOS)
