"""The seam between skills and what does their work: one protocol a skill, backends by name.

A backend is created with its options from the settings, loads what it needs in `load`, and is
used by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from pydantic import BaseModel, ConfigDict

from ..geometry import Corners, Mask, Position

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["BACKENDS", "Detection", "Detector", "Findings", "Outliner", "TextLine", "TextReader"]

BACKENDS: dict[str, dict[str, str]] = {
    "ocr": {"rapidocr": "llava_plus.skills.backends.rapidocr:RapidOCRReader"},
    "detect": {
        "opencv": "llava_plus.skills.backends.opencv:OpenCVDetector",
        "grounding-dino": "llava_plus.skills.backends.open_vocabulary:GroundingDinoDetector",
        "owlv2": "llava_plus.skills.backends.open_vocabulary:Owlv2Detector",
    },
    "segment": {
        "grabcut": "llava_plus.skills.backends.grabcut:GrabCutOutliner",
        "sam": "llava_plus.skills.backends.sam:SamOutliner",
    },
}
"""Where each skill's backends are, by name; the first one serves unless settings say otherwise."""


class TextLine(BaseModel):
    """A line of text that was read."""

    model_config = ConfigDict(frozen=True)

    text: str
    box: Corners
    score: float


class TextReader(Protocol):
    """Reads the text in an image."""

    def load(self, device: str) -> None:
        """Load what `read` needs."""

    def read(self, image: Image) -> list[TextLine]:
        """Every line of text, in any order; boxes are fractions of `image`."""


class Detection(BaseModel):
    """A thing that was found; `content` is what it says, for codes that can be decoded."""

    model_config = ConfigDict(frozen=True)

    label: str
    box: Corners
    score: float
    content: str = ""


class Findings(BaseModel):
    """What a detector found, the labels that it does not know, and what to bear in mind."""

    model_config = ConfigDict(frozen=True)

    objects: tuple[Detection, ...] = ()
    unknown: tuple[str, ...] = ()
    note: str = ""


class Detector(Protocol):
    """Finds named things in an image."""

    @property
    def vocabulary(self) -> Sequence[str]:
        """The kinds of things that it knows; empty when it takes any label."""

    def load(self, device: str) -> None:
        """Load what `detect` needs."""

    def detect(self, image: Image, labels: Sequence[str], threshold: float | None) -> Findings:
        """Things with a score of `threshold` or more, each under its label as it was asked for."""


class Outliner(Protocol):
    """Finds the exact outline of the thing at a place."""

    def load(self, device: str) -> None:
        """Load what `outline` needs."""

    def outline(self, image: Image, place: Corners | Position) -> Mask | None:
        """The thing in a box or at a point, or None when nothing stands out there."""
