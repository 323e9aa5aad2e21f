"""The skill that reads text in images."""

from __future__ import annotations

from collections.abc import Sequence

from . import wording
from .backed import BackedSkill
from .backends import TextLine, TextReader
from .geometry import Box, Corners
from .skill import ImageArgument, SkillOutput

__all__ = ["Ocr", "ReadText"]


class ReadText(SkillOutput):
    """The lines of text in an image, in reading order."""

    lines: tuple[TextLine, ...]

    def summary(self) -> str:
        """How many lines were read."""
        return wording.ocr_summary(len(self.lines)) + "."

    def text(self) -> str:
        """How many lines were read, and what they say."""
        return wording.ocr_text([line.text for line in self.lines])


class Ocr(BackedSkill[TextReader]):
    """Reads text with the backend that the settings name."""

    name = "ocr"
    description = (
        "Read the text written in an image: signs, receipts, labels, documents, handwriting."
    )

    def run(self, image: ImageArgument, region: Box | None = None) -> ReadText:
        """Read the whole image, or one region of it."""
        place = region or Corners(0, 0, 1, 1)
        left, top, right, bottom = place.pixels(image.width, image.height)
        part = image.crop((left, top, right, bottom)) if region else image
        cut = Corners(
            left / image.width, top / image.height, right / image.width, bottom / image.height
        )
        lines = [
            line.model_copy(update={"box": _placed(line.box, cut)})
            for line in self.backend.read(part)
        ]
        return ReadText(lines=tuple(_reading_order(lines)))


def _placed(box: Corners, within: Corners) -> Corners:
    """A box given in fractions of the part `within`, in fractions of the whole image."""
    width, height = within.x1 - within.x0, within.y1 - within.y0
    return Corners(
        round(within.x0 + box.x0 * width, 3),
        round(within.y0 + box.y0 * height, 3),
        round(within.x0 + box.x1 * width, 3),
        round(within.y0 + box.y1 * height, 3),
    )


def _reading_order(lines: Sequence[TextLine]) -> list[TextLine]:
    """Rows from top to bottom, each from left to right."""
    rows: list[list[TextLine]] = []
    for line in sorted(lines, key=lambda line: line.box.y0 + line.box.y1):
        if rows and _overlap(rows[-1][0].box, line.box) >= 0.5:
            rows[-1].append(line)
        else:
            rows.append([line])
    return [line for row in rows for line in sorted(row, key=lambda line: line.box.x0)]


def _overlap(one: Corners, other: Corners) -> float:
    """How much of the lower of two boxes' heights they have in common."""
    common = min(one.y1, other.y1) - max(one.y0, other.y0)
    return common / max(min(one.y1 - one.y0, other.y1 - other.y0), 1e-6)
