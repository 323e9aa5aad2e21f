"""Requests to begin with, on pictures that are drawn here."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["SAMPLES", "Sample", "samples_for"]

_SKY, _SEA, _SAND, _SUN = (150, 200, 232), (46, 117, 158), (236, 214, 168), (255, 209, 102)
_PAPER, _INK, _RED = (252, 251, 246), (40, 44, 52), (214, 64, 69)
_DIGITS = (
    "0001101", "0011001", "0010011", "0111101", "0100011",
    "0110001", "0101111", "0111011", "0110111", "0001011",
)  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """A request, the family that it is of, and the skill without which it makes no sense."""

    family: str
    text: str
    skill: str | None = None
    picture: Callable[[], Image] | None = None

    def write(self, folder: Path) -> Path | None:
        """Draw the picture into `folder`, if there is one."""
        if self.picture is None:
            return None
        path = folder / f"{self.picture.__name__}.png"
        self.picture().save(path)
        return path


def beach() -> Image:
    """A boat on the sea."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (640, 420), _SKY)
    draw = ImageDraw.Draw(picture)
    draw.ellipse((470, 50, 560, 140), fill=_SUN)
    draw.rectangle((0, 230, 640, 330), fill=_SEA)
    draw.polygon([(0, 330), (640, 300), (640, 420), (0, 420)], fill=_SAND)
    draw.polygon([(180, 250), (340, 250), (310, 290), (210, 290)], fill=_RED)
    draw.polygon([(262, 100), (262, 242), (350, 242)], fill=_PAPER)
    draw.polygon([(252, 130), (252, 242), (190, 242)], fill=_PAPER)
    draw.line((257, 90, 257, 252), fill=_INK, width=5)
    return picture


def notice() -> Image:
    """A notice with three lines to read."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", (640, 420), (120, 144, 128))
    draw = ImageDraw.Draw(picture)
    draw.rounded_rectangle((70, 50, 570, 370), radius=18, fill=_PAPER, outline=_INK, width=4)
    lines = (
        ("BOAT HIRE", 58, _RED),
        ("Open daily 9:00 - 18:00", 34, _INK),
        ("2 hours: 24", 44, _INK),
    )
    for row, (line, size, colour) in enumerate(lines):
        font = ImageFont.load_default(size)
        draw.text((320, 125 + 90 * row), line, fill=colour, font=font, anchor="mm")
    return picture


def parcel() -> Image:
    """A parcel with a barcode (UPC-A), which detectors of every kind know."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (640, 420), (222, 226, 230))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((70, 60, 570, 390), fill=(196, 154, 108))
    draw.rectangle((70, 60, 570, 100), fill=(176, 134, 90))
    draw.rectangle((220, 160, 500, 330), fill=_PAPER)
    for place, bar in enumerate(_bars("012345678905")):
        if bar == "1":
            draw.rectangle((265 + 2 * place, 180, 266 + 2 * place, 310), fill=_INK)
    return picture


def _bars(digits: str) -> str:
    """The 95 modules of a UPC-A code, 1 where a bar stands (ISO/IEC 15420)."""
    left = [_DIGITS[int(digit)] for digit in digits[:6]]
    right = [_DIGITS[int(digit)].translate(str.maketrans("01", "10")) for digit in digits[6:]]
    return "".join(["101", *left, "01010", *right, "101"])


SAMPLES = (
    Sample("Find", "Find the barcode.", "detect", parcel),
    Sample("Read", "What does the notice say?", "ocr", notice),
    Sample("Change", "Make it black and white.", "adjust", beach),
    Sample("Look closer", "Crop to the left half of the picture.", "crop", beach),
    Sample("Calculate", "What is 12.5% of 2,640?", "calculate"),
    Sample("Chart", "Draw a bar chart: apples 3, pears 5, plums 2.", "plot"),
    Sample("Describe", "What is in this picture?", None, beach),
)


def samples_for(skills: Collection[str]) -> list[Sample]:
    """The samples for which the skills on offer will do."""
    return [sample for sample in SAMPLES if sample.skill is None or sample.skill in skills]
