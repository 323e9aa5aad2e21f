"""The skill that points at named things."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from . import wording
from .backends import Detection, Detector, Outliner
from .detect import Labels, distinct, look_for
from .extras import Packages, needing
from .geometry import Corners, Mask, Position
from .segment import MOST_REGIONS
from .settings import create_backend
from .skill import Image, ImageArgument, Skill, SkillOutput

__all__ = ["PointAt", "PointedAt", "Pointer"]


class Pointer(BaseModel):
    """A point on a thing, as fractions of the image."""

    model_config = ConfigDict(frozen=True)

    label: str
    point: Position
    score: float


class PointedAt(SkillOutput):
    """A point on each named thing that was found."""

    points: tuple[Pointer, ...]
    asked: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    note: str = ""

    def summary(self) -> str:
        """How many of each there are."""
        labels = [found.label for found in self.points]
        return wording.detections_summary(labels, self.asked, unknown=self.unknown, note=self.note)

    def text(self) -> str:
        """How many of each there are, and a point on each one."""
        points = [(found.label, found.point) for found in self.points]
        return wording.points_text(points, self.asked, unknown=self.unknown, note=self.note)


class PointAt(Skill):
    """Finds things with the backend of `detect`, and a place on each with that of `segment`."""

    name = "point"
    description = "Point at named things; returns a point on each one, and their count."
    packages: ClassVar[Packages] = Packages("vision", ("cv2",))
    uses: ClassVar[tuple[str, ...]] = ("detect", "segment")

    def setup(self, device: str) -> None:
        """Load both backends. Raises `BadConfiguration` when that cannot be done."""
        with needing(self.packages.extra, "point"):
            import cv2  # noqa: F401
        self._detector: Detector = create_backend("detect")
        self._detector.load(device)
        self._outliner: Outliner = create_backend("segment")
        self._outliner.load(device)

    def teardown(self) -> None:
        """Let go of both backends."""
        del self._detector, self._outliner

    def run(self, labels: Labels, image: ImageArgument) -> PointedAt:
        """Find each label; the point is well inside the thing, where its outline is found."""
        asked = distinct(labels)
        found = look_for(self._detector, image, asked)
        points = self._points(image, found.objects)
        return PointedAt(points=points, asked=tuple(asked), unknown=found.unknown, note=found.note)

    def _points(self, image: Image, things: Sequence[Detection]) -> tuple[Pointer, ...]:
        points = []
        for number, thing in enumerate(things):
            mask = self._outliner.outline(image, thing.box) if number < MOST_REGIONS else None
            point = innermost(mask) if mask else _centre(thing.box)
            points.append(Pointer(label=thing.label, point=point, score=thing.score))
        return tuple(points)


def innermost(mask: Mask) -> Position:
    """The place in a mask that is farthest from its edge (its pole of inaccessibility).

    It has as few digits as leave it half as deep inside, or deeper.
    """
    import cv2
    import numpy as np

    inside = np.pad(mask.array(), 1).astype(np.uint8)  # the image's own border is an edge too
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    height, width = depth.shape
    row, column = divmod(int(depth.argmax()), width)
    pole = Position((column + 0.5) / width, (row + 0.5) / height)
    for digits in (2, 3, 4):
        place = Position(round(pole.x, digits), round(pole.y, digits))
        column, row = place.pixels(width, height)
        if depth[row, column] >= depth.max() / 2:
            return place
    return pole


def _centre(box: Corners) -> Position:
    return Position(round((box.x0 + box.x1) / 2, 3), round((box.y0 + box.y1) / 2, 3))
