"""Drawing on an image: outlines, dots and lines that show on any ground, and labels beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from .wording import shorten

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont
    from PIL.ImageFont import ImageFont as BitmapFont

    Font = FreeTypeFont | BitmapFont

__all__ = ["COLOURS", "INK", "PAPER", "Canvas", "Rect", "Rgb", "font_for", "ink_on"]

Rgb = tuple[int, int, int]
Rect = tuple[float, float, float, float]

COLOURS: tuple[Rgb, ...] = (
    (230, 57, 70),
    (0, 119, 182),
    (255, 183, 3),
    (42, 157, 143),
    (131, 56, 236),
    (251, 133, 0),
    (76, 201, 240),
    (214, 40, 140),
    (106, 153, 78),
    (141, 84, 48),
)
"""Colours that are told apart, for kinds of things in the order in which they turn up."""

INK: Rgb = (33, 37, 41)
PAPER: Rgb = (250, 250, 248)
_LONGEST_LABEL = 48
_DARK = 90
_WIDE_FONTS = ("NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "DejaVuSans.ttf", "Arial.ttf")


@dataclass
class Canvas:
    """An image that is drawn on, in pixels, and the labels that it will carry."""

    image: Image
    labels: list[tuple[str, Rect, Rgb]] = field(default_factory=list)
    dots: list[Rect] = field(default_factory=list)
    """What no label may hide."""

    @property
    def unit(self) -> float:
        """Pixels of a letter's height: everything else is in proportion."""
        return max(15.0, 0.021 * max(self.image.size))

    def outline(self, rect: Rect, colour: Rgb, label: str = "") -> None:
        """Outline a rectangle."""
        self.frame(rect, colour, self._width)
        self.add_label(label, rect, colour)

    def frame(self, rect: Rect, colour: Rgb, width: int) -> None:
        """Draw the edges of a rectangle so that they show on any ground."""
        outer = (rect[0] - 1, rect[1] - 1, rect[2] + 1, rect[3] + 1)
        self.pen().rectangle(outer, outline=self._casing(rect, colour), width=width + 2)
        self.pen().rectangle(rect, outline=colour, width=width)

    def dot(self, x: float, y: float, colour: Rgb, label: str = "") -> None:
        """Fill a small circle."""
        radius = max(3.0, self.unit / 3)
        rect = (x - radius, y - radius, x + radius, y + radius)
        edge = max(1, round(self.unit / 12))
        self.pen().ellipse(rect, fill=colour, outline=self._casing(rect, colour), width=edge)
        self.dots.append(rect)
        self.add_label(label, rect, colour)

    def line(self, ends: Rect, colour: Rgb, label: str = "") -> None:
        """Draw a line from (x0, y0) to (x1, y1)."""
        width = self._width
        x0, y0, x1, y1 = ends
        rect = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
        self.pen().line(ends, fill=self._casing(rect, colour), width=width + 2)
        self.pen().line(ends, fill=colour, width=width)
        self.add_label(label, rect, colour)

    def write(self, text: str, x: float, y: float, colour: Rgb) -> None:
        """Write words with their middle at a place, or as near as they fit, edged to be read."""
        size = 1.3 * self.unit
        edge = max(1, round(size / 12))
        room = self.image.width - 4 * edge
        if (width := font_for(int(size), text).getlength(text)) > room:
            size = max(8.0, 0.95 * size * room / width)  # widths are not quite in proportion
        font = font_for(int(size), text)
        half = font.getlength(text) / 2 + 2 * edge
        place = (_within(x, half, self.image.width), _within(y, 0.7 * size, self.image.height))
        ink = ink_on(colour)
        self.pen().text(place, text, colour, font, anchor="mm", stroke_width=edge, stroke_fill=ink)

    def add_label(self, label: str, rect: Rect, colour: Rgb) -> None:
        """Remember a label, if there is one, for the thing in `rect`."""
        if label:
            self.labels.append((label, rect, colour))

    def label_size(self, label: str) -> tuple[float, float]:
        """Width and height of a label as it will be drawn."""
        size, shown = round(self.unit), shorten(label, _LONGEST_LABEL)
        return font_for(size, shown).getlength(shown) + size * 0.7, size * 1.4

    def draw_labels(self) -> None:
        """Write the labels, each at the first side of its thing where no other one stands."""
        size = round(self.unit)
        taken = list(self.dots)
        for label, rect, colour in self.labels:
            shown = shorten(label, _LONGEST_LABEL)
            font = font_for(size, shown)
            width, height = self.label_size(label)
            chip = self._free_place(rect, width, height, taken)
            taken.append(chip)
            draw = self.pen()
            draw.rounded_rectangle(chip, radius=size * 0.22, fill=colour)
            middle = (chip[1] + chip[3]) / 2
            draw.text((chip[0] + size * 0.35, middle), shown, ink_on(colour), font, anchor="lm")

    def _free_place(self, rect: Rect, width: float, height: float, taken: Sequence[Rect]) -> Rect:
        left = min(max(rect[0], 0), max(self.image.width - width, 0))
        right = min(max(rect[2] - width, 0), max(self.image.width - width, 0))
        tops = (rect[1] - height, rect[1], rect[3], rect[3] - height)
        places = [
            (x, y, x + width, y + height)
            for x in (left, right)
            for y in tops
            if 0 <= y <= self.image.height - height
        ]
        free = (place for place in places if not any(_overlap(place, other) for other in taken))
        top = min(max(rect[1], 0), max(self.image.height - height, 0))
        return next(free, places[0] if places else (left, top, left + width, top + height))

    def rect(self, box: Rect) -> Rect:
        """The pixels of a box, or of the ends of a line, that is given in fractions."""
        width, height = self.image.width - 1, self.image.height - 1
        return box[0] * width, box[1] * height, box[2] * width, box[3] * height

    def place(self, point: tuple[float, float]) -> tuple[float, float]:
        """The pixel of a point that is given in fractions."""
        return point[0] * (self.image.width - 1), point[1] * (self.image.height - 1)

    def pen(self) -> ImageDraw:
        """What draws on the image as it is now."""
        from PIL import ImageDraw

        return ImageDraw.Draw(self.image)

    @property
    def _width(self) -> int:
        return max(2, round(self.unit / 6))

    def _casing(self, rect: Rect, colour: Rgb) -> Rgb:
        """What parts a colour from the ground: light on a dark ground, dark on any other."""
        from PIL import ImageStat

        x0, y0, x1, y1 = map(round, rect)
        ground = self.image.crop((x0, y0, max(x0, x1) + 1, max(y0, y1) + 1)).convert("L")
        return PAPER if ImageStat.Stat(ground).median[0] < _DARK else _shade(colour)


def _within(middle: float, half: float, extent: float) -> float:
    """The middle of a stretch that reaches `half` to either side, moved into the extent."""
    return min(max(middle, half), max(extent - half, half))


def _overlap(one: Rect, other: Rect) -> bool:
    across = one[0] < other[2] and other[0] < one[2]
    return across and one[1] < other[3] and other[1] < one[3]


def _shade(colour: Rgb) -> Rgb:
    red, green, blue = (round(0.4 * part) for part in colour)
    return red, green, blue


def ink_on(colour: Rgb) -> Rgb:
    """Ink that can be read on a ground of `colour`."""
    red, green, blue = colour
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 150 else (255, 255, 255)


def font_for(size: int, text: str) -> Font:
    """Pillow's own font; for letters beyond Latin one of the machine's, where it has any."""
    return _load_font(size, all(ord(letter) < 0x250 or letter == "…" for letter in text))


@cache
def _load_font(size: int, latin: bool) -> Font:
    from PIL import ImageFont

    for name in () if latin else _WIDE_FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)
