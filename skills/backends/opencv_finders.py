"""Finders for one kind of thing each, made of the detectors that come with OpenCV 4.

Their raw weights are turned into scores from 0 to 1 by curves that were set by hand on
photographs, so that 0.5 is where a person would rather say yes than no.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["FINDERS", "Found", "View"]

Pixels = NDArray[np.uint8]


class Found(NamedTuple):
    """A place in pixels of the view, how sure the finder is, and what a code says."""

    left: float
    top: float
    right: float
    bottom: float
    score: float
    content: str = ""


class View:
    """An image at the sizes that the detectors work best at: `fine` is for codes."""

    def __init__(self, color: Pixels, gray: Pixels, fine: Pixels) -> None:
        self.color = color
        self.gray = gray
        self.fine = fine

    @cached_property
    def half(self) -> Pixels:
        """The gray image at half its size, where that is enough to work on."""
        height, width = self.gray.shape
        size = (max(1, width // 2), max(1, height // 2))
        return np.asarray(cv2.resize(self.gray, size, interpolation=cv2.INTER_AREA), np.uint8)

    @cached_property
    def faces(self) -> list[Found]:
        """Faces from the front and from either side; several finders start from them."""
        found = _cascade("frontalface_alt2", self.gray, weight=(55.6, 3.0), step=1.12)
        mirrored = np.ascontiguousarray(self.half[:, ::-1])
        for side, flipped in ((self.half, False), (mirrored, True)):
            for face in _cascade("profileface", side, weight=(0.3, 2.5), smallest=(20, 20)):
                # Profiles are told less surely than faces from the front, and score below them.
                face = _scaled(face._replace(score=0.7 * face.score + 0.15), 2)
                found.append(_mirrored(face, self.gray.shape[1]) if flipped else face)
        return _distinct(found)


def find_faces(view: View) -> list[Found]:
    """Faces from the front, and from either side."""
    return view.faces


def find_people(view: View) -> list[Found]:
    """Whole figures, upright, and people of whom at least the face shows."""
    upper = _cascade("upperbody", view.half, weight=(0.0, 1.0), smallest=(22, 18), neighbors=3)
    upper = [_scaled(part, 2) for part in upper]
    found = []
    for figure in _figures(view):
        # Wheels and masts look like figures to the one detector, but not to both.
        backed = any(_is_top_of(part, figure) for part in upper)
        found.append(figure._replace(score=_squash(figure.score, 0.75 if backed else 1.1, 6.0)))
    height, width = view.gray.shape
    for face in view.faces:
        if not any(_is_top_of(face, figure) for figure in found if figure.score >= 0.5):
            found.append(_body_below(face, width, height))
    return _distinct(found)


def find_upper_bodies(view: View) -> list[Found]:
    """Heads with shoulders."""
    height, width = view.gray.shape
    found = [_body_below(face, width, height, heads=2.6) for face in view.faces]
    plain = _cascade("upperbody", view.half, weight=(1.6, 2.0), smallest=(22, 18), neighbors=6)
    return _distinct([*found, *(_scaled(part, 2) for part in plain)])


def find_eyes(view: View) -> list[Found]:
    """Eyes, in the upper part of faces."""
    found = []
    for face in view.faces:
        part, place = _part(view.gray, face, top=0.15, bottom=0.6)
        eyes = _cascade("eye_tree_eyeglasses", part, weight=(0.5, 1.0), smallest=(12, 12))
        eyes = sorted(eyes, key=lambda eye: -eye.score)[:2]
        found += [place(eye, min(eye.score, face.score)) for eye in eyes]
    return _distinct(found)


def find_smiles(view: View) -> list[Found]:
    """Smiling mouths, in the lower part of faces."""
    found = []
    for face in view.faces:
        part, place = _part(view.gray, face, top=0.55, bottom=1.1)
        # The cascade sees smiles nearly everywhere; only many hits in one place mean something.
        smiles = _cascade("smile", part, weight=(1.0, 1.0), smallest=(24, 12), neighbors=20)
        best = max(smiles, key=lambda smile: smile.score, default=None)
        if best:
            found.append(place(best, min(best.score, face.score)))
    return found


def find_cat_faces(view: View) -> list[Found]:
    """Faces of cats that look at the camera."""
    one = _cascade("frontalcatface", view.gray, weight=(0.0, 1.0), smallest=(40, 40))
    other = _cascade("frontalcatface_extended", view.gray, weight=(0.0, 1.0), smallest=(40, 40))
    return _distinct([face for face in one if _best(face, other) > 0.3])


def find_plates(view: View) -> list[Found]:
    """Number plates of the wide, one-row kind (the detector learned from Russian ones)."""
    found = []
    for gray, scale in ((view.half, 2), (view.gray, 1)):
        one, other = (
            _cascade(name, gray, weight=(0.0, 1.0), smallest=(40, 13), step=1.05)
            for name in ("russian_plate_number", "license_plate_rus_16stages")
        )
        found += [_scaled(plate, scale) for plate in one if _best(plate, other) > 0.3]
    return _distinct(found)


def find_qr_codes(view: View) -> list[Found]:
    """QR codes, with what they say where that can be read."""
    found = []
    for shown, scale in _sizes(view):
        ok, texts, corners, _ = cv2.QRCodeDetectorAruco().detectAndDecodeMulti(shown)
        found += _codes(texts, corners, scale) if ok else []
    return sorted(_distinct(found), key=lambda code: (code.top, code.left))


def find_barcodes(view: View) -> list[Found]:
    """Barcodes that can be read, with their digits."""
    found = []
    for shown, scale in _sizes(view):
        ok, texts, _, corners = cv2.barcode.BarcodeDetector().detectAndDecodeWithType(shown)
        found += _codes(texts, corners, scale) if ok else []
    found = _distinct(code for code in found if code.content)
    return sorted(found, key=lambda code: (code.top, code.left))


FINDERS: dict[str, Callable[[View], list[Found]]] = {
    "face": find_faces,
    "person": find_people,
    "upper body": find_upper_bodies,
    "eye": find_eyes,
    "smile": find_smiles,
    "cat face": find_cat_faces,
    "number plate": find_plates,
    "QR code": find_qr_codes,
    "barcode": find_barcodes,
}


@cache
def _classifier(name: str) -> Any:
    folder = Path(cv2.__file__).parent / "data"
    return cv2.CascadeClassifier(str(folder / f"haarcascade_{name}.xml"))


def _cascade(
    name: str,
    gray: Pixels,
    *,
    weight: tuple[float, float],
    neighbors: int = 4,
    step: float = 1.08,
    smallest: tuple[int, int] = (24, 24),
) -> list[Found]:
    """What a Haar cascade finds; `weight` is the one that scores 0.5, and the curve's slope."""
    if gray.shape[0] < smallest[1] or gray.shape[1] < smallest[0]:
        return []
    boxes, _, weights = _classifier(name).detectMultiScale3(
        gray, step, neighbors, minSize=smallest, outputRejectLevels=True
    )
    return [
        Found(x, y, x + width, y + height, _squash(float(raw), *weight))
        for (x, y, width, height), raw in zip(_numbers(boxes), np.ravel(weights), strict=True)
    ]


def _numbers(boxes: Any) -> list[tuple[int, int, int, int]]:
    """OpenCV's boxes, of which it returns an empty tuple when there are none."""
    return [(int(x), int(y), int(width), int(height)) for x, y, width, height in boxes]


def _figures(view: View) -> list[Found]:
    """Upright figures by histograms of gradients; the score is the mean weight over six looks.

    One look is a lottery: the same figure gets 0.3 at one size and 1.4 at another.
    """
    detector = cv2.HOGDescriptor()
    detector.setSVMDetector(np.array(cv2.HOGDescriptor.getDefaultPeopleDetector(), np.float32))
    height, width = view.gray.shape
    looks = []
    for side in (480, 620, 800):
        scale = side / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(view.color, size, interpolation=cv2.INTER_AREA)
        # OpenCV crashes the process on an image that is smaller than its window of 64 x 128.
        low, narrow = max(0, 160 - size[1]), max(0, 96 - size[0])
        small = cv2.copyMakeBorder(small, 0, low, 0, narrow, cv2.BORDER_REPLICATE)
        for flipped in (False, True):
            shown = np.ascontiguousarray(small[:, ::-1]) if flipped else small
            boxes, weights = detector.detectMultiScale(
                shown, winStride=(8, 8), padding=(16, 16), scale=1.05
            )
            look = [
                _scaled(Found(x, y, x + w, y + h, float(raw)), 1 / scale)
                for (x, y, w, h), raw in zip(_numbers(boxes), np.ravel(weights), strict=True)
            ]
            looks.append(
                [_mirrored(one, small.shape[1] / scale) for one in look] if flipped else look
            )
    merged = _distinct([found for look in looks for found in look])
    return [_trimmed(found._replace(score=_mean(found, looks))) for found in merged]


def _mean(found: Found, looks: Sequence[Sequence[Found]]) -> float:
    best = (max((o.score for o in look if _shared(found, o) > 0.4), default=0.0) for look in looks)
    return sum(best) / len(looks)


def _trimmed(figure: Found) -> Found:
    """Without the margin that the detector's window has around a figure."""
    side, end = (figure.right - figure.left) * 0.12, (figure.bottom - figure.top) * 0.06
    return figure._replace(
        left=figure.left + side,
        right=figure.right - side,
        top=figure.top + end,
        bottom=figure.bottom - end,
    )


def _is_top_of(part: Found, figure: Found) -> bool:
    """Whether a face or an upper body sits where it would in a whole figure."""
    x, y = (part.left + part.right) / 2, (part.top + part.bottom) / 2
    middle = figure.top + 0.45 * (figure.bottom - figure.top)
    is_inside = figure.left <= x <= figure.right and figure.top - 5 <= y <= middle
    return is_inside and (part.right - part.left) < 1.2 * (figure.right - figure.left)


def _body_below(face: Found, width: int, height: int, heads: float = 5.0) -> Found:
    """Where the body that belongs to a face must be, going by usual proportions."""
    size = face.right - face.left
    x = (face.left + face.right) / 2
    return face._replace(
        left=max(0, x - 1.4 * size),
        right=min(width, x + 1.4 * size),
        top=max(0, face.top - 0.35 * size),
        bottom=min(height, face.top + heads * size),
    )


def _part(
    gray: Pixels, face: Found, *, top: float, bottom: float
) -> tuple[Pixels, Callable[[Found, float], Found]]:
    """A band across a face, made 240 pixels wide, and the way from there back into the view."""
    left, right = int(face.left), int(face.right)
    tall = face.bottom - face.top
    first, last = int(face.top + top * tall), int(face.top + bottom * tall)
    band = gray[max(0, first) : last, left:right]
    scale = 240 / max(1, band.shape[1])
    larger = cv2.resize(band, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)

    def place(found: Found, score: float) -> Found:
        return Found(
            left + found.left / scale,
            first + found.top / scale,
            left + found.right / scale,
            first + found.bottom / scale,
            score,
        )

    return np.asarray(larger, dtype=np.uint8), place


def _sizes(view: View) -> Iterator[tuple[Pixels, float]]:
    """The image at several sizes, with the way back: code readers miss much at any one of them."""
    height, width = view.fine.shape
    for scale in (1.0, 0.7, 0.5, 0.35):
        size = (max(1, int(width * scale)), max(1, int(height * scale)))
        shown = cv2.resize(view.fine, size, interpolation=cv2.INTER_AREA)
        yield np.asarray(shown, np.uint8), view.gray.shape[1] / size[0]


def _codes(texts: Iterable[str], corners: Any, scale: float) -> list[Found]:
    found = []
    for text, points in zip(texts, corners, strict=True):
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        score = 1.0 if text else 0.6
        code = Found(float(left), float(top), float(right), float(bottom), score, text)
        found.append(_scaled(code, scale))
    return found


def _squash(weight: float, half: float, slope: float) -> float:
    return 1 / (1 + math.exp(-slope * (weight - half)))


def _scaled(found: Found, factor: float) -> Found:
    left, top, right, bottom = (edge * factor for edge in found[:4])
    return found._replace(left=left, top=top, right=right, bottom=bottom)


def _mirrored(found: Found, width: float) -> Found:
    return found._replace(left=width - found.right, right=width - found.left)


def _distinct(found: Iterable[Found]) -> list[Found]:
    """The surest of those that lie on one another, surest first."""
    kept: list[Found] = []
    for one in sorted(found, key=lambda one: -one.score):
        if all(_shared(one, other) <= 0.4 and _within(one, other) <= 0.8 for other in kept):
            kept.append(one)
    return kept


def _best(one: Found, others: Iterable[Found]) -> float:
    return max((_shared(one, other) for other in others), default=0.0)


def _common(one: Found, other: Found) -> float:
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    return max(0.0, width) * max(0.0, height)


def _area(one: Found) -> float:
    return (one.right - one.left) * (one.bottom - one.top)


def _shared(one: Found, other: Found) -> float:
    """Intersection over union."""
    common = _common(one, other)
    return common / max(_area(one) + _area(other) - common, 1e-9)


def _within(one: Found, other: Found) -> float:
    """The share of the smaller one that lies in the other."""
    return _common(one, other) / max(min(_area(one), _area(other)), 1e-9)
