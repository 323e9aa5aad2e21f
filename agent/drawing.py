"""Showing on an image what a skill found in it: boxes, masks, and lines of text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..skills.calls import SkillResult
from ..skills.canvas import COLOURS, INK, PAPER, Canvas, Rect, Rgb, font_for, ink_on
from ..skills.geometry import Mask
from ..skills.wording import shorten

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["annotate"]

_SMALLEST = 800
"""Smaller images are enlarged until their longer side has so many pixels: labels must fit."""

_ROOMY = 12
"""Times that a region is larger than its label, for the label to stand inside."""


def annotate(image: Image, result: SkillResult) -> Image | None:
    """A copy of `image` with the finding on it, or None when `result` holds no place in it.

    Read are the masks that were made, and in `data` every list of objects with a `box` or a
    `point`, and a `label` or a `text`, whatever the skill; so the finding of a plugin shows as
    well.
    """
    marks = list(_marks(result.data))
    masks = [(artifact.label, artifact.mask) for artifact in result.artifacts if artifact.mask]
    if not marks and not masks:
        return None
    sheet = _Sheet.of(image)
    for index, (label, mask) in enumerate(masks):
        sheet.draw_mask(mask, label, COLOURS[index % len(COLOURS)])
    lines = [mark for mark in marks if mark.is_text]
    # Where masks show what the boxes hold, boxes would only hide it.
    boxes = [] if masks else [mark for mark in marks if not mark.is_text]
    colours = _colours_of([mark.label for mark in boxes])
    for mark in boxes:
        sheet.draw_box(mark, colours[mark.label])
    for number, line in enumerate(lines, 1):
        sheet.draw_line(line, number)
    sheet.draw_labels()
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
    def is_point(self) -> bool:
        return self.box[:2] == self.box[2:]

    @property
    def caption(self) -> str:
        if self.content:
            return f"{self.label}: {self.content}"
        return f"{self.label} {self.score:.0%}" if self.score is not None else self.label


def _marks(data: Mapping[str, Any]) -> Iterator[_Mark]:
    for value in data.values():
        for item in value if isinstance(value, list | tuple) else ():
            if isinstance(item, Mapping) and (box := _place(item)):
                text, score = item.get("text"), item.get("score")
                yield _Mark(
                    box,
                    str(text if text is not None else item.get("label") or ""),
                    score if isinstance(score, float | int) else None,
                    str(item.get("content") or ""),
                    text is not None,
                )


def _place(item: Mapping[str, Any]) -> Rect | None:
    """The box of a thing; its point is a box without extent."""
    point = item.get("point")
    twice = [*point, *point] if isinstance(point, list | tuple) and len(point) == 2 else None
    return _box(item.get("box", twice))


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
    return {label: COLOURS[index % len(COLOURS)] for index, label in enumerate(kinds)}


class _Sheet(Canvas):
    """The image that is drawn on, large enough for its labels."""

    @classmethod
    def of(cls, image: Image) -> _Sheet:
        from PIL.Image import Resampling

        longest = max(image.size)
        if longest < _SMALLEST:
            scale = _SMALLEST / longest
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            return cls(image.convert("RGB").resize(size, Resampling.LANCZOS))
        return cls(image.convert("RGB"))

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
        self.add_label(label, _line_inside(region, *self.label_size(label)) or bounds, colour)

    def draw_box(self, mark: _Mark, colour: Rgb) -> None:
        """Tint and outline a box, or mark a point."""
        rect = self.rect(mark.box)
        if mark.is_point:
            self.dot(*rect[:2], colour, mark.caption)
            return
        self._tint(rect, colour, 0.08)
        self.outline(rect, colour, mark.caption)

    def draw_line(self, mark: _Mark, number: int) -> None:
        """Tint a line of text and give it the number under which it stands beside the image."""
        colour = COLOURS[(number - 1) % len(COLOURS)]
        rect = self.rect(mark.box)
        self._tint(rect, colour, 0.16)
        self.frame(rect, colour, max(1, round(self.unit / 9)))
        left, top, _, bottom = rect
        size = min(self.unit * 0.9, max(11.0, bottom - top))
        font = font_for(round(size), "")
        width = font.getlength(str(number)) + size * 0.5
        x0 = left - width if left >= width else left
        middle = (top + bottom) / 2
        chip = (x0, middle - size * 0.58, x0 + width, middle + size * 0.58)
        self.pen().rectangle(chip, fill=colour)
        self.pen().text(
            ((chip[0] + chip[2]) / 2, middle), str(number), ink_on(colour), font, anchor="mm"
        )

    def _tint(self, rect: Rect, colour: Rgb, strength: float) -> None:
        from PIL import Image as Pillow

        corners = (round(rect[0]), round(rect[1]), round(rect[2]) + 1, round(rect[3]) + 1)
        part = self.image.crop(corners)
        flat = Pillow.new("RGB", part.size, colour)
        self.image.paste(Pillow.blend(part, flat, strength), corners[:2])


def _line_inside(region: Image, width: float, height: float) -> Rect | None:
    """The line on which a label of this size stands deepest inside a region, if that is large.

    Around a small region or a narrow one, None, there is more room than inside.
    """
    import numpy as np
    from PIL import Image as Pillow
    from PIL import ImageFilter, ImageOps

    if region.histogram()[255] < _ROOMY * width * height:
        return None
    across, down = width / 4, height / 4
    grid = (max(1, round(region.width / across)), max(1, round(region.height / down)))
    cells = region.resize(grid, Pillow.Resampling.BOX).point(lambda value: value // 255 * 255)
    inner = ImageOps.expand(cells, 1, fill=0)
    depth = 0
    while (eroded := inner.filter(ImageFilter.MinFilter(3))).getbbox():
        inner, depth = eroded, depth + 1
    if depth < 2:  # cells to each side: not yet a label's four
        return None
    rows, columns = np.nonzero(np.asarray(inner))
    nearest = np.hypot(rows - rows.mean(), columns - columns.mean()).argmin()
    x, y = (columns[nearest] - 0.5) * across, (rows[nearest] - 0.5) * down
    return float(x - width / 2), float(y + height / 2), float(x + width / 2), float(y + height / 2)


def _beside(image: Image, lines: Sequence[str]) -> Image:
    """The image with the lines that were read in it listed at its right."""
    from PIL import Image as Pillow
    from PIL import ImageDraw

    fits = image.height / (len(lines) + 1) / 1.6
    size = round(min(max(fits, 13.0), max(15.0, 0.026 * max(image.size))))
    shown = [shorten(line, 60) for line in lines]
    fonts = [font_for(size, line) for line in shown]
    number_width = font_for(size, "").getlength(f"{len(lines)}") + size * 0.6
    widest = max(font.getlength(line) for font, line in zip(fonts, shown, strict=True))
    width = round(number_width + widest + size * 3)
    height = max(image.height, round((len(lines) + 1) * size * 1.6))
    sheet = Pillow.new("RGB", (image.width + width, height), PAPER)
    sheet.paste(image)
    draw = ImageDraw.Draw(sheet)
    left = image.width + size
    for index, (line, font) in enumerate(zip(shown, fonts, strict=True)):
        middle = (index + 1) * size * 1.6
        colour = COLOURS[index % len(COLOURS)]
        chip = (left, middle - size * 0.6, left + number_width, middle + size * 0.6)
        draw.rounded_rectangle(chip, radius=size * 0.2, fill=colour)
        centre = (left + number_width / 2, middle)
        draw.text(centre, str(index + 1), ink_on(colour), font_for(size, ""), anchor="mm")
        draw.text((left + number_width + size * 0.6, middle), line, INK, font, anchor="lm")
    return sheet
