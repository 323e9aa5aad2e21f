"""Outlining things with GrabCut, which needs no weights: it tells colors inside from outside."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..geometry import Corners, Mask, Position
from . import Licence, Packages

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    Pixels = NDArray[np.uint8]
    Frame = tuple[int, int, int, int]

__all__ = ["GrabCutOutliner"]

_LONGEST = 400
_SMALLEST_SHARE = 0.02
"""The share of a box below which what is left is noise rather than the thing in it."""


@dataclass(config=ConfigDict(extra="forbid"))
class GrabCutOutliner:
    """An `Outliner` for things whose colors stand out from what is around them."""

    rounds: int = Field(default=4, ge=1, le=50)
    threads: int = Field(default=2, ge=1)

    licence: ClassVar[Licence] = Licence("Apache-2.0", "none needed")
    packages: ClassVar[Packages] = Packages("vision", ("cv2",))

    def load(self, device: str) -> None:
        """Import OpenCV; it runs on the CPU whatever `device` is."""
        import cv2

        cv2.setNumThreads(self.threads)

    def outline(self, image: Image, place: Corners | Position) -> Mask | None:
        """The thing in a box or at a point, or None when nothing stands out there."""
        import cv2
        import numpy as np

        frame = _surroundings(place, image)
        part = _reduced(image, frame)
        seeds = _seeds(place, image, frame, part.shape[:2])
        cv2.setRNGSeed(0)  # the same call gives the same mask
        outside, within = np.zeros((1, 65)), np.zeros((1, 65))
        no_box = (0, 0, 1, 1)
        cv2.grabCut(part, seeds, no_box, outside, within, self.rounds, cv2.GC_INIT_WITH_MASK)
        inside = ((seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD)).astype(np.uint8)
        whole = _solid(inside, seeds if isinstance(place, Position) else None)
        hoped_for = place.area if isinstance(place, Corners) else _SMALLEST_SHARE
        mask = _enlarged(whole, image, frame)
        return mask if mask.area >= max(hoped_for * _SMALLEST_SHARE, 1e-9) else None


def _surroundings(place: Corners | Position, image: Image) -> Frame:
    """The part of the image that is looked at: a box with half its size around it, or all."""
    if isinstance(place, Position):
        return 0, 0, image.width, image.height
    wide, tall = (place.x1 - place.x0) / 2, (place.y1 - place.y0) / 2
    around = Corners(
        max(0.0, place.x0 - wide),
        max(0.0, place.y0 - tall),
        min(1.0, place.x1 + wide),
        min(1.0, place.y1 + tall),
    )
    return around.pixels(image.width, image.height)


def _reduced(image: Image, frame: Frame) -> Pixels:
    """That part as pixels, blue first, at a size that GrabCut is quick with."""
    import numpy as np

    part = image.crop(frame)
    scale = min(1.0, _LONGEST / max(part.size))
    # There must be room for an edge of background around some foreground.
    size = (max(8, round(part.width * scale)), max(8, round(part.height * scale)))
    return np.ascontiguousarray(np.asarray(part.resize(size))[:, :, ::-1])


def _seeds(place: Corners | Position, image: Image, frame: Frame, shape: tuple[int, ...]) -> Pixels:
    """What is known beforehand: outside a box is background, at a point is foreground."""
    import cv2
    import numpy as np

    height, width = shape[:2]
    if isinstance(place, Position):
        seeds = np.full((height, width), cv2.GC_PR_BGD, np.uint8)
        x, y = int(place.x * (width - 1)), int(place.y * (height - 1))
        short = min(height, width)
        cv2.circle(seeds, (x, y), max(1, short // 5), cv2.GC_PR_FGD, -1)
        _bound(seeds)
        cv2.circle(seeds, (x, y), max(0, short // 40), cv2.GC_FGD, -1)
        return seeds
    seeds = np.full((height, width), cv2.GC_BGD, np.uint8)
    left, top, right, bottom = place.pixels(image.width, image.height)
    across, down = width / (frame[2] - frame[0]), height / (frame[3] - frame[1])
    rows = slice(int((top - frame[1]) * down), math.ceil((bottom - frame[1]) * down))
    columns = slice(int((left - frame[0]) * across), math.ceil((right - frame[0]) * across))
    seeds[rows, columns] = cv2.GC_PR_FGD
    if not (seeds == cv2.GC_BGD).any():
        _bound(seeds)
    return seeds


def _bound(seeds: Pixels) -> None:
    """Make the outermost pixels background: GrabCut must have some to learn from."""
    import cv2

    edge = max(1, min(seeds.shape) // 50)
    seeds[:edge], seeds[-edge:] = cv2.GC_BGD, cv2.GC_BGD
    seeds[:, :edge], seeds[:, -edge:] = cv2.GC_BGD, cv2.GC_BGD


def _solid(inside: Pixels, seeds: Pixels | None) -> Pixels:
    """Without specks and small holes; with seeds, only the piece that holds the point."""
    import cv2
    import numpy as np

    closed = cv2.morphologyEx(inside, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(closed)
    if count < 2:
        return np.zeros_like(inside)
    if seeds is not None:
        wanted = np.unique(pieces[seeds == cv2.GC_FGD])
        return np.isin(pieces, wanted[wanted > 0]).astype(np.uint8)
    sizes = stats[1:, cv2.CC_STAT_AREA]
    large = 1 + np.flatnonzero(sizes >= sizes.max() / 10)
    return np.isin(pieces, large).astype(np.uint8)


def _enlarged(part: Pixels, image: Image, frame: Frame) -> Mask:
    """The mask of the part as one of the whole image."""
    import cv2
    import numpy as np

    left, top, right, bottom = frame
    size = (right - left, bottom - top)
    larger = cv2.resize(part * 255, size, interpolation=cv2.INTER_LINEAR)
    whole = np.zeros((image.height, image.width), bool)
    whole[top:bottom, left:right] = larger > 127
    return Mask.from_array(whole)
