"""Simple, exact changes to pixels: one small function each.

An effect takes an image (the part that is to change) and a strength from 0 to 1, and returns
an image of the same size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image as Pillow
from PIL import ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from ..geometry import Corners, Mask

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "EFFECTS",
    "Place",
    "apply",
    "blur_background",
    "crop",
    "highlight",
    "places",
    "remove",
    "rotate",
    "trim",
    "union",
]

Effect = Callable[["Image", float], "Image"]
_HIGHLIGHTER = (255, 221, 0)


class Place(NamedTuple):
    """A part of an image: its box in pixels, and which pixels of it belong (all, or `shape`)."""

    box: tuple[int, int, int, int]
    shape: Image | None = None


def places(target: Sequence[Corners] | Mask, image: Image) -> list[Place]:
    """The parts of the image that a target stands for; none when a mask is empty."""
    if not isinstance(target, Mask):
        return [Place(box.pixels(image.width, image.height)) for box in target]
    shape = Pillow.fromarray(target.array())
    box = shape.getbbox()
    return [Place(box, shape.crop(box))] if box else []


def union(parts: Sequence[Place], size: tuple[int, int]) -> Image:
    """All parts as one mask: 255 where a pixel belongs to any of them."""
    whole = Pillow.new("L", size)
    for part in parts:
        whole.paste(255, part.box, part.shape)
    return whole


def apply(effect: Effect, image: Image, parts: Sequence[Place], strength: float) -> Image:
    """The image with `effect` on its parts; each is made from the pixels as they were."""
    result = image.copy()
    for part in parts:
        result.paste(effect(image.crop(part.box), strength), part.box, part.shape)
    return result


def blur(image: Image, strength: float) -> Image:
    """Blur relative to the part's size: from half strength on, a face is nobody's any more."""
    return image.filter(ImageFilter.GaussianBlur(0.3 * strength * min(image.size)))


def soften(image: Image, strength: float) -> Image:
    """Blur a whole image: from hardly to beyond recognition of anything but large shapes."""
    return image.filter(ImageFilter.GaussianBlur(0.05 * strength * min(image.size)))


def pixelate(image: Image, strength: float) -> Image:
    """Squares: 20 across the part's shorter side at no strength, 3 at full strength."""
    return _squares(image, 20 * (3 / 20) ** strength)


def mosaic(image: Image, strength: float) -> Image:
    """Squares over a whole image: 160 across its shorter side at no strength, 10 at full."""
    return _squares(image, 160 * (10 / 160) ** strength)


def _squares(image: Image, count: float) -> Image:
    side = max(1.0, min(image.size) / count)
    few = (max(1, round(image.width / side)), max(1, round(image.height / side)))
    return image.resize(few, Pillow.Resampling.BOX).resize(image.size, Pillow.Resampling.NEAREST)


def grayscale(image: Image, strength: float) -> Image:
    """Take the color out."""
    return Pillow.blend(image, ImageOps.grayscale(image).convert("RGB"), strength)


def brighten(image: Image, strength: float) -> Image:
    """Lighten; full strength doubles every value."""
    return ImageEnhance.Brightness(image).enhance(1 + strength)


def darken(image: Image, strength: float) -> Image:
    """Darken; full strength is black."""
    return ImageEnhance.Brightness(image).enhance(1 - strength)


def contrast(image: Image, strength: float) -> Image:
    """Spread light and dark; full strength doubles the distance to the mean."""
    return ImageEnhance.Contrast(image).enhance(1 + strength)


def saturate(image: Image, strength: float) -> Image:
    """Strengthen the colors; full strength triples their distance to gray."""
    return ImageEnhance.Color(image).enhance(1 + 2 * strength)


def sharpen(image: Image, strength: float) -> Image:
    """Strengthen edges by an unsharp mask; full strength adds three times the difference."""
    return image.filter(ImageFilter.UnsharpMask(radius=2, percent=round(300 * strength)))


def sepia(image: Image, strength: float) -> Image:
    """Brown tones, like an old print."""
    toned = ImageOps.colorize(
        ImageOps.grayscale(image), (20, 10, 0), (255, 240, 200), (150, 110, 70)
    )
    return Pillow.blend(image, toned, strength)


def invert(image: Image, strength: float) -> Image:
    """The negative."""
    return Pillow.blend(image, ImageChops.invert(image), strength)


EFFECTS: dict[str, tuple[Effect, Effect]] = {
    "blur": (blur, soften),
    "pixelate": (pixelate, mosaic),
    "grayscale": (grayscale, grayscale),
    "brighten": (brighten, brighten),
    "darken": (darken, darken),
    "contrast": (contrast, contrast),
    "saturate": (saturate, saturate),
    "sharpen": (sharpen, sharpen),
    "sepia": (sepia, sepia),
    "invert": (invert, invert),
}
"""For each operation, the effect on a part and the one on a whole image."""


def rotate(image: Image, degrees: float) -> Image:
    """Turn clockwise on a canvas that holds the whole image; new corners are white."""
    turns = {90: Pillow.Transpose.ROTATE_270, 270: Pillow.Transpose.ROTATE_90}
    turns |= {180: Pillow.Transpose.ROTATE_180}
    if degrees % 360 in turns:  # exact: no pixel is computed anew
        return image.transpose(turns[int(degrees % 360)])
    return image.rotate(-degrees, Pillow.Resampling.BICUBIC, expand=True, fillcolor="white")


def crop(image: Image, parts: Sequence[Place], margin: float) -> Image:
    """The smallest rectangle around all parts, with `margin` times its size on every side."""
    left, top, right, bottom = _around(parts)
    wide, tall = round(margin * (right - left)), round(margin * (bottom - top))
    return image.crop(
        (
            max(0, left - wide),
            max(0, top - tall),
            min(image.width, right + wide),
            min(image.height, bottom + tall),
        )
    )


def trim(image: Image, share: float) -> Image:
    """Without `share` of its width and height, half of it on either side."""
    wide, tall = round(share / 2 * image.width), round(share / 2 * image.height)
    right, bottom = max(wide + 1, image.width - wide), max(tall + 1, image.height - tall)
    return image.crop((wide, tall, right, bottom))


def highlight(image: Image, parts: Sequence[Place], strength: float) -> Image:
    """Dim everything but the parts and draw a line around each; tint when all is highlighted."""
    chosen = union(parts, image.size)
    if chosen.getextrema() == (255, 255):
        return Pillow.blend(image, Pillow.new("RGB", image.size, _HIGHLIGHTER), strength / 2)
    result = Pillow.composite(image, darken(image, 0.9 * strength), chosen)
    line = max(2, round(min(image.size) / 150))
    for part in parts:
        if part.shape is None:
            ImageDraw.Draw(result).rectangle(_inclusive(part.box), outline=_HIGHLIGHTER, width=line)
    shapes = [part for part in parts if part.shape is not None]
    if shapes:
        inside = union(shapes, image.size)
        edge = ImageChops.subtract(_grown(inside, line), inside)
        result.paste(_HIGHLIGHTER, None, edge)
    return result


def remove(image: Image, parts: Sequence[Place]) -> Image | None:
    """Fill the parts from what is around them, or None when there is nothing around."""
    import cv2
    import numpy as np

    line = max(2, round(min(image.size) / 200))
    mask = _grown(union(parts, image.size), line)
    if mask.getextrema()[0] == 255:
        return None
    left, top, right, bottom = mask.getbbox() or (0, 0, *image.size)
    room = max(16, (right - left) // 4, (bottom - top) // 4)
    frame = (
        max(0, left - room),
        max(0, top - room),
        min(image.width, right + room),
        min(image.height, bottom + room),
    )
    part, hole = image.crop(frame), mask.crop(frame)
    # The fill is smooth, so it is made small and enlarged: time grows with the hole's area.
    scale = min(1.0, 512 / max(part.size))
    size = (max(1, round(part.width * scale)), max(1, round(part.height * scale)))
    small = hole.resize(size).point(lambda value: 255 if value else 0)
    filled = cv2.inpaint(np.asarray(part.resize(size)), np.asarray(small), 4, cv2.INPAINT_TELEA)
    result = image.copy()
    result.paste(Pillow.fromarray(filled).resize(part.size), frame, hole)
    return result


def blur_background(image: Image, parts: Sequence[Place], strength: float) -> Image:
    """Blur all but the parts, without their colors running out into the background."""
    subject = union(parts, image.size)
    around = ImageChops.invert(subject)
    scale = min(1.0, 1024 / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    soft = _blurred_without(image.resize(size), around.resize(size), 0.05 * strength * min(size))
    edge = max(1.0, min(image.size) / 400)
    return Pillow.composite(image, soft.resize(image.size), subject.filter(_soft(edge)))


def _blurred_without(image: Image, kept: Image, radius: float) -> Image:
    """A blur to which only the pixels in `kept` add their color."""
    import cv2
    import numpy as np

    weight = np.asarray(kept, np.float32)[:, :, None] / 255 + 1e-4
    sigma = max(radius, 0.1)
    colors = cv2.GaussianBlur(np.asarray(image, np.float32) * weight, (0, 0), sigma)
    weights = cv2.GaussianBlur(weight, (0, 0), sigma)[:, :, None]
    return Pillow.fromarray(np.clip(colors / weights, 0, 255).astype(np.uint8))


def _soft(radius: float) -> ImageFilter.GaussianBlur:
    return ImageFilter.GaussianBlur(radius)


def _grown(mask: Image, pixels: int) -> Image:
    """The mask with `pixels` more on every side."""
    import cv2
    import numpy as np

    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1, 2 * pixels + 1))
    return Pillow.fromarray(cv2.dilate(np.asarray(mask), kernel))


def _around(parts: Sequence[Place]) -> tuple[int, int, int, int]:
    lefts, tops, rights, bottoms = zip(*(part.box for part in parts), strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _inclusive(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Pillow draws rectangles up to and with their last pixel."""
    return box[0], box[1], box[2] - 1, box[3] - 1
