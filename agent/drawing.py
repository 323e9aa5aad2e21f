"""Showing on an image what a skill found in it: boxes, masks, and lines of text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from ..skills.calls import SkillResult
from ..skills.geometry import Mask

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont
    from PIL.ImageFont import ImageFont as BitmapFont

    Font = FreeTypeFont | BitmapFont

__all__ = ["annotate"]

Rgb = tuple[int, int, int]
Rect = tuple[float, float, float, float]

_COLOURS: tuple[Rgb, ...] = (
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
_SMALLEST = 800
"""Smaller images are enlarged until their longer side has so many pixels: labels must fit."""

_INK: Rgb = (33, 37, 41)
_PAPER: Rgb = (250, 250, 248)
_WIDE_FONTS = ("NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "DejaVuSans.ttf", "Arial.ttf")


def annotate(image: Image, result: SkillResult) -> Image | None:
    """A copy of `image` with the finding on it, or None when `result` holds no place in it.

    Read are the masks that were made, and in `data` every list of objects with a `box` and a
    `label` or a `text`, whatever the skill; so the finding of a plugin shows as well.
    """
    marks = list(_marks(result.data))
    masks = [(artifact.label, artifact.mask) for artifact in result.artifacts if artifact.mask]
    if not marks and not masks:
        return None
    sheet = _Sheet.of(image)
    for index, (label, mask) in enumerate(masks):
        sheet.draw_mask(mask, label, _COLOURS[index % len(_COLOURS)])
    lines = [mark for mark in marks if mark.is_text]
    # Where masks show what the boxes hold, boxes would only hide it.
    boxes = [] if masks else [mark for mark in marks if not mark.is_text]
    colours = _colours_of([mark.label for mark in boxes])
    for mark in boxes:
        sheet.draw_box(mark, colours[mark.label])
    for number, line in enumerate(lines, 1):
        sheet.draw_line(line, number)
    sheet.draw_chips()
    return _beside(sheet.image, [line.label for line in lines]) if lines else sheet.image


@dataclass(frozen=True)
class _Mark:
    """One place that a skill named."""

    box: Rect
    label: str
    score: float | None
    content: str
    is_text: bool

    @property
    def caption(self) -> str:
        if self.content:
            return f"{self.label}: {self.content}"
        return f"{self.label} {self.score:.0%}" if self.score is not None else self.label


def _marks(data: Mapping[str, Any]) -> Iterator[_Mark]:
    for value in data.values():
        for item in value if isinstance(value, list | tuple) else ():
            if isinstance(item, Mapping) and (box := _box(item.get("box"))):
                text, score = item.get("text"), item.get("score")
                yield _Mark(
                    box,
                    str(text if text is not None else item.get("label") or ""),
                    score if isinstance(score, float | int) else None,
                    str(item.get("content") or ""),
                    text is not None,
                )


def _box(value: object) -> Rect | None:
    if not (isinstance(value, list | tuple) and len(value) == 4):
        return None
    if not all(isinstance(side, float | int) and math.isfinite(side) for side in value):
        return None
    x0, y0, x1, y1 = (min(max(float(side), 0.0), 1.0) for side in value)
    return (x0, y0, x1, y1) if x0 <= x1 and y0 <= y1 else None


def _colours_of(labels: Sequence[str]) -> dict[str, Rgb]:
    """A colour for each label; things of one kind share it."""
    kinds = dict.fromkeys(labels)
    return {label: _COLOURS[index % len(_COLOURS)] for index, label in enumerate(kinds)}


@dataclass
class _Sheet:
    """The image that is drawn on, and the labels that it will carry."""

    image: Image
    unit: float
    """Pixels of a line's height: everything else is in proportion."""
    chips: list[tuple[str, Rect, Rgb]] = field(default_factory=list)

    @classmethod
    def of(cls, image: Image) -> _Sheet:
        from PIL.Image import Resampling

        longest = max(image.size)
        if longest < _SMALLEST:
            scale = _SMALLEST / longest
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            enlarged = image.convert("RGB").resize(size, Resampling.LANCZOS)
        else:
            enlarged = image.convert("RGB")
        return cls(enlarged, max(15.0, 0.021 * max(enlarged.size)))

    def draw_mask(self, mask: Mask, label: str, colour: Rgb) -> None:
        """Tint a mask and draw its edge."""
        from PIL import Image as Pillow
        from PIL import ImageChops, ImageFilter

        whole = Pillow.fromarray(mask.array()).convert("L")
        smooth = whole.resize(self.image.size, Pillow.Resampling.BICUBIC)
        region = smooth.point(lambda value: 255 if value >= 128 else 0)
        if (bounds := region.getbbox()) is None:
            return
        width = 2 * max(1, round(self.unit / 14)) + 1
        inside = region.filter(ImageFilter.MinFilter(width))
        edge = ImageChops.subtract(region, inside)
        self.image.paste(colour, mask=region.point(lambda value: value * 2 // 5))
        self.image.paste(colour, mask=edge)
        if label:
            self.chips.append((label, bounds, colour))

    def draw_box(self, mark: _Mark, colour: Rgb) -> None:
        """Outline a box, dark beneath so that it shows on any ground."""
        rect = self._rect(mark.box)
        width = max(2, round(self.unit / 6))
        self._tint(rect, colour, 0.08)
        draw = self._draw()
        outer = (rect[0] - 1, rect[1] - 1, rect[2] + 1, rect[3] + 1)
        draw.rectangle(outer, outline=_mix(colour, (0, 0, 0), 0.6), width=width + 2)
        draw.rectangle(rect, outline=colour, width=width)
        if mark.caption:
            self.chips.append((mark.caption, rect, colour))

    def draw_line(self, mark: _Mark, number: int) -> None:
        """Tint a line of text and give it the number under which it stands beside the image."""
        colour = _COLOURS[(number - 1) % len(_COLOURS)]
        rect = self._rect(mark.box)
        self._tint(rect, colour, 0.16)
        self._draw().rectangle(rect, outline=colour, width=max(1, round(self.unit / 9)))
        left, top, _, bottom = rect
        size = min(self.unit * 0.9, max(11.0, bottom - top))
        font = _font(round(size), "")
        width = font.getlength(str(number)) + size * 0.5
        x0 = left - width if left >= width else left
        middle = (top + bottom) / 2
        chip = (x0, middle - size * 0.58, x0 + width, middle + size * 0.58)
        self._draw().rectangle(chip, fill=colour)
        self._draw().text(
            ((chip[0] + chip[2]) / 2, middle), str(number), _on(colour), font, anchor="mm"
        )

    def draw_chips(self) -> None:
        """Write the labels, each at the first side of its place where no other one stands."""
        size = round(self.unit)
        taken: list[Rect] = []
        for caption, rect, colour in self.chips:
            shown = _shorten(caption, 48)
            font = _font(size, shown)
            width, height = font.getlength(shown) + size * 0.7, size * 1.4
            chip = self._free_place(rect, width, height, taken)
            taken.append(chip)
            draw = self._draw()
            draw.rounded_rectangle(chip, radius=size * 0.22, fill=colour)
            middle = (chip[1] + chip[3]) / 2
            draw.text((chip[0] + size * 0.35, middle), shown, _on(colour), font, anchor="lm")

    def _free_place(self, rect: Rect, width: float, height: float, taken: list[Rect]) -> Rect:
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

    def _tint(self, rect: Rect, colour: Rgb, strength: float) -> None:
        from PIL import Image as Pillow

        corners = (round(rect[0]), round(rect[1]), round(rect[2]) + 1, round(rect[3]) + 1)
        part = self.image.crop(corners)
        flat = Pillow.new("RGB", part.size, colour)
        self.image.paste(Pillow.blend(part, flat, strength), corners[:2])

    def _rect(self, box: Rect) -> Rect:
        width, height = self.image.width - 1, self.image.height - 1
        return box[0] * width, box[1] * height, box[2] * width, box[3] * height

    def _draw(self) -> ImageDraw:
        from PIL import ImageDraw

        return ImageDraw.Draw(self.image)


def _beside(image: Image, lines: Sequence[str]) -> Image:
    """The image with the lines that were read in it listed at its right."""
    from PIL import Image as Pillow
    from PIL import ImageDraw

    fits = image.height / (len(lines) + 1) / 1.6
    size = round(min(max(fits, 13.0), max(15.0, 0.026 * max(image.size))))
    shown = [_shorten(line, 60) for line in lines]
    fonts = [_font(size, line) for line in shown]
    number_width = _font(size, "").getlength(f"{len(lines)}") + size * 0.6
    widest = max(font.getlength(line) for font, line in zip(fonts, shown, strict=True))
    width = round(number_width + widest + size * 3)
    height = max(image.height, round((len(lines) + 1) * size * 1.6))
    sheet = Pillow.new("RGB", (image.width + width, height), _PAPER)
    sheet.paste(image)
    draw = ImageDraw.Draw(sheet)
    left = image.width + size
    for index, (line, font) in enumerate(zip(shown, fonts, strict=True)):
        middle = (index + 1) * size * 1.6
        colour = _COLOURS[index % len(_COLOURS)]
        chip = (left, middle - size * 0.6, left + number_width, middle + size * 0.6)
        draw.rounded_rectangle(chip, radius=size * 0.2, fill=colour)
        centre = (left + number_width / 2, middle)
        draw.text(centre, str(index + 1), _on(colour), _font(size, ""), anchor="mm")
        draw.text((left + number_width + size * 0.6, middle), line, _INK, font, anchor="lm")
    return sheet


def _overlap(one: Rect, other: Rect) -> bool:
    across = one[0] < other[2] and other[0] < one[2]
    return across and one[1] < other[3] and other[1] < one[3]


def _mix(colour: Rgb, other: Rgb, share: float) -> Rgb:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def _on(colour: Rgb) -> Rgb:
    """Ink that can be read on a ground of `colour`."""
    red, green, blue = colour
    return _INK if 0.299 * red + 0.587 * green + 0.114 * blue > 150 else (255, 255, 255)


def _shorten(text: str, longest: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= longest else f"{flat[: longest - 1]}…"


def _font(size: int, text: str) -> Font:
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
