"""The seam between skills and what does their work: one protocol a skill, backends by name.

A backend is created with its options from the settings, loads what it needs in `load`, and is
used by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from ..extras import Packages
from ..geometry import Corners, Mask, Position

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "BACKENDS",
    "Backend",
    "BatchCaptioner",
    "BatchTagger",
    "Captioner",
    "Detection",
    "Detector",
    "EverythingOutliner",
    "Findings",
    "ImageEditor",
    "Inpainter",
    "LabelledRegion",
    "Level",
    "LevelOutliner",
    "Licence",
    "Matcher",
    "NamedOutliner",
    "Outliner",
    "Packages",
    "Painter",
    "RegionDescriber",
    "RegionDescription",
    "RegionLabeller",
    "Restyler",
    "Retrieved",
    "Retriever",
    "Searcher",
    "Snippet",
    "Tag",
    "Tagger",
    "TextLine",
    "TextReader",
]

BACKENDS: dict[str, dict[str, str]] = {
    "ocr": {
        "rapidocr": "llava_plus.skills.backends.rapidocr:RapidOCRReader",
        "easyocr": "llava_plus.skills.backends.easyocr:EasyOCRReader",
        "trocr": "llava_plus.skills.backends.trocr:TrOCRReader",
        "llava-plus": "llava_plus.skills.backends.llava_plus:PeerReader",
    },
    "detect": {
        "opencv": "llava_plus.skills.backends.opencv:OpenCVDetector",
        "grounding-dino": "llava_plus.skills.backends.open_vocabulary:GroundingDinoDetector",
        "owlv2": "llava_plus.skills.backends.open_vocabulary:Owlv2Detector",
        "yolo": "llava_plus.skills.backends.yolo:YoloDetector",
        "yolo-world": "llava_plus.skills.backends.yolo:YoloWorldDetector",
        "yoloe": "llava_plus.skills.backends.yolo:YoloeDetector",
        "onnx-yolo": "llava_plus.skills.backends.onnx_yolo:OnnxYoloDetector",
        "sam3": "llava_plus.skills.backends.sam3:Sam3Detector",
        "llava-plus": "llava_plus.skills.backends.llava_plus:PeerDetector",
    },
    "segment": {
        "grabcut": "llava_plus.skills.backends.grabcut:GrabCutOutliner",
        "sam": "llava_plus.skills.backends.sam:SamOutliner",
        "sam2": "llava_plus.skills.backends.sam:Sam2Outliner",
        "sam3": "llava_plus.skills.backends.sam3:Sam3Outliner",
        "segment-anything": "llava_plus.skills.backends.segment_anything:SegmentAnythingOutliner",
        "ultralytics-sam": "llava_plus.skills.backends.ultralytics_sam:UltralyticsSamOutliner",
        "fastsam": "llava_plus.skills.backends.fastsam:FastSamOutliner",
        "yoloe": "llava_plus.skills.backends.yolo_outlines:YoloeOutliner",
        "yolo-seg": "llava_plus.skills.backends.yolo_outlines:YoloSegOutliner",
        "llava-plus": "llava_plus.skills.backends.llava_plus:PeerOutliner",
    },
    "segment_levels": {
        "sam": "llava_plus.skills.backends.sam:SamOutliner",
        "sam2": "llava_plus.skills.backends.sam:Sam2Outliner",
        "sam3": "llava_plus.skills.backends.sam3:Sam3Outliner",
        "segment-anything": "llava_plus.skills.backends.segment_anything:SegmentAnythingOutliner",
        "ultralytics-sam": "llava_plus.skills.backends.ultralytics_sam:UltralyticsSamOutliner",
        "fastsam": "llava_plus.skills.backends.fastsam:FastSamOutliner",
        "llava-plus": "llava_plus.skills.backends.llava_plus:PeerLevelOutliner",
    },
    "segment_like": {
        "owlv2": "llava_plus.skills.backends.open_vocabulary:Owlv2Matcher",
        "llava-plus": "llava_plus.skills.backends.llava_plus:PeerMatcher",
    },
    "label_regions": {
        "mask2former": "llava_plus.skills.backends.panoptic_labelling:Mask2FormerLabeller",
        "oneformer": "llava_plus.skills.backends.panoptic_labelling:OneFormerLabeller",
        "segformer": "llava_plus.skills.backends.region_labelling:SegformerLabeller",
        "llava-plus": "llava_plus.skills.backends.llava_plus:PeerLabeller",
    },
    "caption": {
        "blip": "llava_plus.skills.backends.blip:BlipCaptioner",
        "blip2": "llava_plus.skills.backends.blip:Blip2Captioner",
        "florence2": "llava_plus.skills.backends.florence:Florence2Captioner",
        "llava-plus": "llava_plus.skills.backends.llava_plus:PeerCaptioner",
    },
    "describe_regions": {
        "florence2": "llava_plus.skills.backends.florence:Florence2RegionDescriber",
        "llava-plus": "llava_plus.skills.backends.llava_plus:PeerRegionDescriber",
    },
    "generate": {
        "diffusers": "llava_plus.skills.backends.diffusion:DiffusionPainter",
        "llava-plus": "llava_plus.skills.backends.llava_plus:PeerPainter",
    },
    "edit": {
        "diffusers": "llava_plus.skills.backends.diffusion:DiffusionEditor",
        "llava-plus": "llava_plus.skills.backends.llava_plus:PeerEditor",
    },
    "tag": {
        "zero-shot": "llava_plus.skills.backends.zero_shot:ZeroShotTagger",
        "llava-plus": "llava_plus.skills.backends.llava_plus:PeerTagger",
    },
    "retrieve": {
        "vectors": "llava_plus.skills.backends.picture_index:PictureSearch",
        "llava-plus": "llava_plus.skills.backends.llava_plus:PeerRetriever",
    },
    "inpaint": {
        "diffusers": "llava_plus.skills.backends.diffusion:DiffusionInpainter",
        "llava-plus": "llava_plus.skills.backends.llava_plus:PeerInpainter",
    },
    "knowledge": {
        "http-search": "llava_plus.skills.backends.http_search:HttpSearch",
        "mediawiki": "llava_plus.skills.backends.http_search:MediaWikiSearch",
    },
    "restyle": {
        "diffusers": "llava_plus.skills.backends.controlnet:ControlNetRestyler",
        "llava-plus": "llava_plus.skills.backends.llava_plus:PeerRestyler",
    },
}
"""Where each skill's backends are, by name; the first one serves unless settings say otherwise."""


class Licence(NamedTuple):
    """Under which licences a backend's library and its usual weights are."""

    library: str
    weights: str


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


@runtime_checkable
class NamedOutliner(Protocol):
    """An `Outliner` that may also find by itself what it is to outline."""

    def outline_named(
        self, image: Image, labels: Sequence[str]
    ) -> Sequence[tuple[str, Mask]] | None:
        """Everything with one of the names, or None where it only goes by places."""


@runtime_checkable
class EverythingOutliner(Protocol):
    """An `Outliner` that can also do without being told what or where."""

    def everything(self, image: Image) -> Sequence[Mask]:
        """All that stands out, things and their parts, in any order; some may be the same."""


class Level(BaseModel):
    """One of the things that a point may mean; `score`, 0 to 1, is how sure the outline is."""

    model_config = ConfigDict(frozen=True)

    mask: Mask
    score: float


class LevelOutliner(Backend, Protocol):
    """Finds the outlines of all that a place may mean: a part, the whole, a group of them."""

    def levels(self, image: Image, place: Position) -> Sequence[Level]:
        """The things at a point, the surest first; some may be the same, none is empty."""


class Matcher(Backend, Protocol):
    """Finds things by an example."""

    def match(self, image: Image, reference: Image, box: Corners) -> Sequence[Detection]:
        """What looks like the thing in `box` of `reference`, labelled `match`, the surest first."""


class LabelledRegion(BaseModel):
    """A part of an image; `is_thing` when it is one thing, and not all that has the label."""

    model_config = ConfigDict(frozen=True)

    label: str
    mask: Mask
    is_thing: bool


class RegionLabeller(Backend, Protocol):
    """Divides an image into regions and labels them."""

    def label_regions(self, image: Image) -> Sequence[LabelledRegion]:
        """Every region that has a label, the largest first; none is empty."""


class Captioner(Backend, Protocol):
    """Describes an image."""

    def caption(self, image: Image) -> str:
        """What is in the image, in a sentence."""


@runtime_checkable
class BatchCaptioner(Captioner, Protocol):
    """Describes up to `batch` images at once."""

    batch: int

    def captions(self, images: Sequence[Image]) -> Sequence[str]:
        """What is in each image."""


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


class Restyler(Backend, Protocol):
    """Makes new pictures in the layout of an image, each in its size."""

    def keep_edges(self, image: Image, prompt: str) -> Image:
        """A picture of what the prompt says, with the edges of `image`."""

    def keep_regions(self, image: Image, regions: Sequence[LabelledRegion], prompt: str) -> Image:
        """A picture of what the prompt says, with `regions` where they are in `image`."""


class Tag(BaseModel):
    """A keyword for an image; `score` is from 0 to 1."""

    model_config = ConfigDict(frozen=True)

    name: str
    score: float


class Tagger(Backend, Protocol):
    """Finds keywords for an image."""

    def tags(self, image: Image) -> Sequence[Tag]:
        """The keywords that fit, the surest first."""


@runtime_checkable
class BatchTagger(Tagger, Protocol):
    """Finds the keywords of up to `batch` images at once."""

    batch: int

    def tags_of(self, images: Sequence[Image]) -> Sequence[Sequence[Tag]]:
        """The keywords of each image."""


class Retrieved(BaseModel):
    """A picture of a collection; `score` is its cosine to what was searched for.

    `path` is its name in the collection, or its address on the web; results hold it.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    caption: str
    score: float


class Retriever(Backend, Protocol):
    """Searches a collection of pictures."""

    def search(self, image: Image | None, query: str | None, k: int) -> Sequence[Retrieved]:
        """Up to `k` pictures like the image, like the words, or like both, the nearest first."""

    def open(self, found: Retrieved) -> Image | None:
        """A picture that was found, or None when the collection gives words alone.

        Raises `BadInput` when it cannot be read any more.
        """


class Snippet(BaseModel):
    """A passage that a search found: plain text, and a link to where it stands, if any."""

    model_config = ConfigDict(frozen=True)

    title: str
    text: str
    link: str = ""


class Searcher(Backend, Protocol):
    """Searches for passages of text."""

    def search(self, query: str, k: int) -> Sequence[Snippet]:
        """Up to `k` passages, the most fitting first. Raises `SkillFailed` when none are had."""
