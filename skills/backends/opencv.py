"""Finding people, faces, plates and codes with what comes inside OpenCV 4, without downloads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..geometry import Corners
from ..wording import joined
from . import Detection, Findings, Licence, Packages
from .opencv_words import KINDS, caveat, meaning

if TYPE_CHECKING:
    from PIL.Image import Image

    from .opencv_finders import Found, View

__all__ = ["OpenCVDetector"]

_LONGEST = 1280
"""Pixels of the longer side that detectors work at: faces in a group are still 24 wide."""
_LONGEST_FOR_CODES = 2400
_MOST_ENLARGED = 2.2


@dataclass(config=ConfigDict(extra="forbid"))
class OpenCVDetector:
    """A `Detector` for the few kinds of things that classic detectors know."""

    threads: int = Field(default=2, ge=1)

    licence: ClassVar[Licence] = Licence("Apache-2.0", "Intel licence (BSD-like), in the package")
    packages: ClassVar[Packages] = Packages("vision", ("cv2",))

    @property
    def vocabulary(self) -> Sequence[str]:
        """The kinds of things that it knows."""
        return KINDS

    def load(self, device: str) -> None:
        """Import OpenCV; it runs on the CPU whatever `device` is."""
        import cv2

        from . import opencv_finders  # noqa: F401 - so that a broken install shows now

        cv2.setNumThreads(self.threads)

    def detect(self, image: Image, labels: Sequence[str], threshold: float | None) -> Findings:
        """Things with a score of `threshold` (0.5) or more, the surest first within a label."""
        from .opencv_finders import FINDERS

        known = {label: found for label in labels if (found := meaning(label))}
        view, scale = _view(image)
        by_kind = {kind: FINDERS[kind](view) for kind in {known[label].kind for label in known}}
        least = 0.5 if threshold is None else threshold
        objects = [
            _detection(label, found, scale, image)
            for label, asked in known.items()
            for found in by_kind[asked.kind]
            if found.score >= least
        ]
        # A code of a pixel or two would round to an empty box.
        objects = [found for found in objects if found.box.area > 0]
        notes = (caveat(known.items()), _says(objects))
        return Findings(
            objects=tuple(objects),
            unknown=tuple(label for label in labels if label not in known),
            note=" ".join(note for note in notes if note),
        )


def _view(image: Image) -> tuple[View, float]:
    import numpy as np

    from .opencv_finders import View

    shown, scale = _resized(image, min(_LONGEST / max(image.size), _MOST_ENLARGED))
    fine, _ = _resized(image, min(_LONGEST_FOR_CODES / max(image.size), 1.0))
    blue_first = np.ascontiguousarray(np.asarray(shown)[:, :, ::-1])
    view = View(blue_first, np.asarray(shown.convert("L")), np.asarray(fine.convert("L")))
    return view, scale


def _resized(image: Image, scale: float) -> tuple[Image, float]:
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return (image if scale == 1 else image.resize(size)), scale


def _detection(label: str, found: Found, scale: float, image: Image) -> Detection:
    left, top, right, bottom = (edge / scale for edge in found[:4])
    return Detection(
        label=label,
        box=Corners.from_pixels(left, top, right, bottom, image.width, image.height),
        score=round(found.score, 3),
        content=found.content,
    )


def _says(objects: Sequence[Detection]) -> str:
    """What the codes say, as a sentence; codes are short, but nothing holds them to it."""
    texts = [" ".join(found.content.split())[:300] for found in objects if found.content]
    quoted = joined([f'"{text}"' for text in texts])
    return f"Decoded: {quoted}." if quoted else ""
