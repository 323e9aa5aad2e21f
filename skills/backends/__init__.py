"""The seam between skills and what does their work: one protocol a skill, backends by name.

A backend is created with its options from the settings, loads what it needs in `load`, and is
used by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from ..geometry import Corners, Mask, Position

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "BACKENDS",
    "Backend",
    "Captioner",
    "Detection",
    "Detector",
    "Findings",
    "ImageEditor",
    "Inpainter",
    "Licence",
    "Outliner",
    "Packages",
    "Painter",
    "RegionDescriber",
    "RegionDescription",
    "Retrieved",
    "Retriever",
    "Tag",
    "Tagger",
    "TextLine",
    "TextReader",
]

BACKENDS: dict[str, dict[str, str]] = {
    "ocr": {
        "rapidocr": "llava_plus.skills.backends.rapidocr:RapidOCRReader",
        "easyocr": "llava_plus.skills.backends.easyocr:EasyOCRReader",
    },
    "detect": {
        "opencv": "llava_plus.skills.backends.opencv:OpenCVDetector",
        "grounding-dino": "llava_plus.skills.backends.open_vocabulary:GroundingDinoDetector",
        "owlv2": "llava_plus.skills.backends.open_vocabulary:Owlv2Detector",
        "yolo": "llava_plus.skills.backends.yolo:YoloDetector",
        "yolo-world": "llava_plus.skills.backends.yolo:YoloWorldDetector",
    },
    "segment": {
        "grabcut": "llava_plus.skills.backends.grabcut:GrabCutOutliner",
        "sam": "llava_plus.skills.backends.sam:SamOutliner",
        "segment-anything": "llava_plus.skills.backends.segment_anything:SegmentAnythingOutliner",
        "ultralytics-sam": "llava_plus.skills.backends.ultralytics_sam:UltralyticsSamOutliner",
    },
    "caption": {
        "blip": "llava_plus.skills.backends.blip:BlipCaptioner",
        "blip2": "llava_plus.skills.backends.blip:Blip2Captioner",
        "florence2": "llava_plus.skills.backends.florence:Florence2Captioner",
    },
    "describe_regions": {
        "florence2": "llava_plus.skills.backends.florence:Florence2RegionDescriber",
    },
    "generate": {"diffusers": "llava_plus.skills.backends.diffusion:DiffusionPainter"},
    "edit": {"diffusers": "llava_plus.skills.backends.diffusion:DiffusionEditor"},
    "tag": {"zero-shot": "llava_plus.skills.backends.zero_shot:ZeroShotTagger"},
    "retrieve": {"vectors": "llava_plus.skills.backends.picture_index:PictureSearch"},
    "inpaint": {"diffusers": "llava_plus.skills.backends.diffusion:DiffusionInpainter"},
}
"""Where each skill's backends are, by name; the first one serves unless settings say otherwise."""


class Licence(NamedTuple):
    """Under which licences a backend's library and its usual weights are."""

    library: str
    weights: str


class Packages(NamedTuple):
    """The extra of llava-plus that installs what a backend runs on, and what it then imports."""

    extra: str
    modules: tuple[str, ...]


class Backend(Protocol):
    """What all backends have in common."""

    licence: ClassVar[Licence]
    packages: ClassVar[Packages]

    def load(self, device: str) -> None:
        """Load what the work needs. Raises `BadConfiguration` when it is not there."""


class TextLine(BaseModel):
    """A line of text that was read."""

    model_config = ConfigDict(frozen=True)

    text: str
    box: Corners
    score: float


class TextReader(Backend, Protocol):
    """Reads the text in an image."""

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


class Detector(Backend, Protocol):
    """Finds named things in an image."""

    @property
    def vocabulary(self) -> Sequence[str]:
        """The kinds of things that it knows; empty when it takes any label."""

    def detect(self, image: Image, labels: Sequence[str], threshold: float | None) -> Findings:
        """Things with a score of `threshold` or more, each under its label as it was asked for."""


class Outliner(Backend, Protocol):
    """Finds the exact outline of the thing at a place."""

    def outline(self, image: Image, place: Corners | Position) -> Mask | None:
        """The thing in a box or at a point, or None when nothing stands out there."""


class Captioner(Backend, Protocol):
    """Describes an image."""

    def caption(self, image: Image) -> str:
        """What is in the image, in a sentence."""


class RegionDescription(BaseModel):
    """A part of an image, and what is there."""

    model_config = ConfigDict(frozen=True)

    box: Corners
    words: str


class RegionDescriber(Backend, Protocol):
    """Describes the parts of an image."""

    def describe(self, image: Image) -> Sequence[RegionDescription]:
        """The parts that stand out, the largest first."""


class Painter(Backend, Protocol):
    """Makes pictures from words."""

    def paint(self, prompt: str) -> Image:
        """A new picture of what the prompt says."""


class ImageEditor(Backend, Protocol):
    """Changes an image as it is told."""

    def edit(self, image: Image, instruction: str) -> Image:
        """The changed image, in the size of `image`."""


class Inpainter(Backend, Protocol):
    """Repaints a part of an image."""

    def inpaint(self, image: Image, mask: Mask, prompt: str) -> Image:
        """The image with `prompt` inside the mask, of its size, and unchanged outside."""


class Tag(BaseModel):
    """A keyword for an image; `score` is from 0 to 1."""

    model_config = ConfigDict(frozen=True)

    name: str
    score: float


class Tagger(Backend, Protocol):
    """Finds keywords for an image."""

    def tags(self, image: Image) -> Sequence[Tag]:
        """The keywords that fit, the surest first."""


class Retrieved(BaseModel):
    """A picture of a collection; `score` is its cosine to what was searched for."""

    model_config = ConfigDict(frozen=True)

    path: str
    caption: str
    score: float


class Retriever(Backend, Protocol):
    """Searches a collection of pictures."""

    def search(self, image: Image | None, query: str | None, k: int) -> Sequence[Retrieved]:
        """Up to `k` pictures like the image, like the words, or like both, the nearest first."""

    def open(self, found: Retrieved) -> Image:
        """A picture that was found. Raises `BadInput` when it cannot be read any more."""
