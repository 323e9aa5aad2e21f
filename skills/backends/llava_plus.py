"""Workers of LLaVA-Plus (Liu et al. 2023) as backends, over the protocol of its `serve/` folder.

`url` is a worker, or `controller` is a controller that knows the worker for `api`:

| skill | `api`, the default first |
|---|---|
| detect | grounding_dino |
| segment | sam; grounded_sam, grounding_dino+sam (only by labels) |
| ocr | easyocr, ocr |
| caption | blip2, blip2+grounding_dino |
| tag | ram, ram+grounding_dino |
| describe_regions | blip2+grounding_dino, ram+grounding_dino |
| retrieve | retrieval, clip |
| generate | stable-diffusion, sd |
| edit | instruct-pix2pix, ip2p |
| inpaint | inpainting |
| segment_levels | semantic_sam, semantic-sam |
| segment_like | seem |
| label_regions | controlnet, in its mode `openseed` |
| restyle | controlnet |
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat
from pydantic.dataclasses import dataclass

from ..errors import BadSkillUse
from ..geometry import Corners, Mask, Position
from ..images import shrunk
from ..peer_wire import (
    caption_of,
    decode_picture,
    encode_picture,
    rle,
    tinted,
)
from ..wording import sentence
from . import (
    Detection,
    Findings,
    LabelledRegion,
    Level,
    Packages,
    RegionDescription,
    Retrieved,
    Tag,
    TextLine,
    ade20k,
)
from .peer import Peer, box_of, picture_of, rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

__all__ = [
    "PeerCaptioner",
    "PeerDetector",
    "PeerEditor",
    "PeerInpainter",
    "PeerLabeller",
    "PeerLevelOutliner",
    "PeerMatcher",
    "PeerOutliner",
    "PeerPainter",
    "PeerReader",
    "PeerRegionDescriber",
    "PeerRestyler",
    "PeerRetriever",
    "PeerTagger",
]

_BY_NAME = ("grounded_sam", "grounding_dino+sam")

_Boxes = Annotated[
    tuple[tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat], ...],
    BeforeValidator(lambda boxes: () if boxes is None else boxes),
]


class _Found(BaseModel):
    boxes: _Boxes
    logits: tuple[FiniteFloat, ...]
    phrases: tuple[str, ...]


class _FoundAndOutlined(_Found):
    masks_rle: tuple[Mask, ...]


class _Outlined(BaseModel):
    masks_rle: tuple[Mask, ...]


class _Read(BaseModel):
    texts: tuple[str, ...]
    boxes: _Boxes
    scores: tuple[FiniteFloat, ...]


class _Captioned(BaseModel):
    caption: str


class _Tagged(BaseModel):
    tags: str


class _Edited(BaseModel):
    edited_image: str


class _Drawn(BaseModel):
    iou_sort_masks: tuple[str, ...]


class _Mapped(BaseModel):
    image_seg: str


class _Result(BaseModel):
    caption: str | None = None
    similarity: FiniteFloat
    url: str | None = None
    image: str | None = None


class _Results(BaseModel):
    retrieval_results: tuple[_Result, ...]


def _label(phrase: str, labels: Sequence[str]) -> str:
    """The label that a phrase, cut by the model from the caption, has most words of.

    Empty when the model cut out nothing and it could have been any of several labels.
    """
    words = _words(phrase)
    best = max(labels, key=lambda label: len(words & _words(label)))
    return best if words & _words(best) or len(labels) == 1 else phrase


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


@dataclass(config=ConfigDict(extra="forbid"))
class PeerDetector(Peer):
    """Things with names; `box_threshold` holds where a call has no threshold of its own."""

    api: str = "grounding_dino"

    @property
    def vocabulary(self) -> Sequence[str]:
        """Empty: it takes any label."""
        return ()

    def detect(self, image: Image, labels: Sequence[str], threshold: float | None) -> Findings:
        """Things with a score of `threshold` or more, in the worker's order."""
        asked: dict[str, Any] = {"caption": caption_of(labels)}
        if threshold is not None:
            asked["box_threshold"] = threshold
        told, worker = self.ask(_Found, image, **asked)
        return Findings(
            objects=tuple(
                Detection(label=label, box=box_of(worker, box), score=score)
                for box, score, phrase in rows(worker, told.boxes, told.logits, told.phrases)
                if (label := _label(phrase, labels))
            )
        )


@dataclass(config=ConfigDict(extra="forbid"))
class PeerOutliner(Peer):
    """Things at places (SAM), or things with names, found and outlined in one call."""

    api: str = "sam"

    def outline(self, image: Image, place: Corners | Position) -> Mask | None:
        """The thing in a box or at a point. Raises `BadSkillUse` where it goes by names alone."""
        if self.api in _BY_NAME:
            raise BadSkillUse(f"{self.api!r} outlines things by their names: give labels")
        asked: dict[str, Any] = (
            {"boxes": [list(place)]}
            if isinstance(place, Corners)
            else {"points": [[list(place)]], "point_labels": [[1]]}
        )
        told, _ = self.ask(_Outlined, image, **asked)
        mask = told.masks_rle[0] if told.masks_rle else None
        return mask.fitted_to(image) if mask and mask.area > 0 else None

    def outline_named(
        self, image: Image, labels: Sequence[str]
    ) -> Sequence[tuple[str, Mask]] | None:
        """Everything with one of the names, or None where it goes by places alone."""
        if self.api not in _BY_NAME:
            return None
        told, worker = self.ask(_FoundAndOutlined, image, caption=caption_of(labels))
        return [
            (label, mask.fitted_to(image))
            for phrase, mask in rows(worker, told.phrases, told.masks_rle)
            if mask.area > 0 and (label := _label(phrase, labels))
        ]


@dataclass(config=ConfigDict(extra="forbid"))
class PeerReader(Peer):
    """Lines of text."""

    api: str = "easyocr"

    def read(self, image: Image) -> list[TextLine]:
        """Every line that the worker found."""
        told, worker = self.ask(_Read, image)
        return [
            TextLine(text=text, box=box_of(worker, box), score=score)
            for text, box, score in rows(worker, told.texts, told.boxes, told.scores)
        ]


@dataclass(config=ConfigDict(extra="forbid"))
class PeerCaptioner(Peer):
    """A sentence about the image."""

    api: str = "blip2"

    def caption(self, image: Image) -> str:
        """What is in the image."""
        told, _ = self.ask(_Captioned, image)
        return sentence(told.caption)


@dataclass(config=ConfigDict(extra="forbid"))
class PeerTagger(Peer):
    """Keywords; the worker gives them no scores, so each has the score 1."""

    api: str = "ram"

    def tags(self, image: Image) -> Sequence[Tag]:
        """The keywords in the worker's order."""
        told, _ = self.ask(_Tagged, image)
        names = dict.fromkeys(name.strip() for name in told.tags.split(","))
        return [Tag(name=name, score=1) for name in names if name]


@dataclass(config=ConfigDict(extra="forbid"))
class PeerRegionDescriber(Peer):
    """The things of which the worker's own caption or tags speak, each with its phrase."""

    api: str = "blip2+grounding_dino"

    def describe(self, image: Image) -> Sequence[RegionDescription]:
        """The parts that were found, the largest first."""
        told, worker = self.ask(_Found, image)
        found = [
            RegionDescription(box=box_of(worker, box), words=sentence(phrase))
            for box, phrase in rows(worker, told.boxes, told.phrases)
            if phrase.strip()
        ]
        return sorted(found, key=lambda region: -region.box.area)


class _RetrievedPicture(Retrieved):
    picture: str = Field(default="", exclude=True, repr=False)


@dataclass(config=ConfigDict(extra="forbid"))
class PeerRetriever(Peer):
    """Pictures of the worker's collection that are like an image; not all come along."""

    api: str = "retrieval"

    def search(self, image: Image | None, query: str | None, k: int) -> Sequence[Retrieved]:
        """The first `k` of what the worker found. Raises `BadSkillUse` for words."""
        if image is None or query is not None:
            raise BadSkillUse("retrieve: this collection is searched by an image, without a query")
        told, _ = self.ask(_Results, image)
        return [
            _RetrievedPicture(
                path=found.url or "",
                caption=found.caption or "",
                score=found.similarity,
                picture=found.image or "",
            )
            for found in told.retrieval_results[:k]
        ]

    def open(self, found: Retrieved) -> Image | None:
        """The picture that came with a result, if any; addresses on the web are not fetched."""
        if not isinstance(found, _RetrievedPicture) or not found.picture:
            return None
        return decode_picture(found.picture, name=found.path or "the picture")


@dataclass(config=ConfigDict(extra="forbid"))
class PeerPainter(Peer):
    """New pictures."""

    api: str = "stable-diffusion"

    def paint(self, prompt: str) -> Image:
        """A picture in the worker's size."""
        told, worker = self.ask(_Edited, prompt=prompt)
        return picture_of(worker, told.edited_image)


@dataclass(config=ConfigDict(extra="forbid"))
class PeerEditor(Peer):
    """Images changed by instruction."""

    api: str = "instruct-pix2pix"

    def edit(self, image: Image, instruction: str) -> Image:
        """The changed image, in the size of `image`."""
        told, worker = self.ask(_Edited, image, prompt=instruction)
        return picture_of(worker, told.edited_image).resize(image.size)


@dataclass(config=ConfigDict(extra="forbid"))
class PeerInpainter(Peer):
    """Areas repainted; the worker's picture is taken only inside the mask."""

    api: str = "inpainting"

    def inpaint(self, image: Image, mask: Mask, prompt: str) -> Image:
        """The image with `prompt` inside the mask, and unchanged outside."""
        from PIL import Image as Pillow

        area = rle(mask.fitted_to(shrunk(image, self.side)))
        told, worker = self.ask(_Edited, image, prompt=prompt, mask=area)
        painted = picture_of(worker, told.edited_image).resize(image.size)
        return Pillow.composite(painted, image, Pillow.fromarray(mask.array()))


@dataclass(config=ConfigDict(extra="forbid"))
class PeerLevelOutliner(Peer):
    """Everything that a point may mean, as Semantic-SAM has it.

    The worker sends no masks but pictures with a mask drawn over each, from which they are read
    back, and no ratings but their order, so each has the score 1.
    """

    api: str = "semantic_sam"

    def levels(self, image: Image, place: Position) -> Sequence[Level]:
        """The things at a point, in the worker's order."""
        told, worker = self.ask(_Drawn, image, point=[list(place)])
        masks = [tinted(image, picture_of(worker, drawn)) for drawn in told.iou_sort_masks]
        return [Level(mask=mask, score=1) for mask in masks if mask.area > 0]


@dataclass(config=ConfigDict(extra="forbid"))
class PeerMatcher(Peer):
    """What looks like an example, as SEEM has it.

    The worker sends the image with one mask drawn over it, which is read back; its pieces of
    `smallest` share of the image or more are the matches. It gives no scores, so each has 1.
    """

    api: str = "seem"
    smallest: float = Field(default=0.001, ge=0, le=1)
    packages: ClassVar[Packages] = Packages("vision", ("httpx", "cv2"))

    def match(self, image: Image, reference: Image, box: Corners) -> Sequence[Detection]:
        """The pieces of the mask, the largest first."""
        import cv2
        import numpy as np
        from PIL import Image as Pillow

        example = shrunk(reference, self.side)
        marked = Pillow.new("L", example.size)
        marked.paste(255, box.pixels(*example.size))
        told, worker = self.ask(
            _Edited, image, refimg=encode_picture(example), refmask=encode_picture(marked)
        )
        found = tinted(image, picture_of(worker, told.edited_image)).array().astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(found)
        pieces = sorted(stats[1:].tolist(), key=lambda piece: -piece[cv2.CC_STAT_AREA])
        return [
            Detection(
                label="match",
                box=Corners.from_pixels(x, y, x + wide, y + tall, image.width, image.height),
                score=1,
            )
            for x, y, wide, tall, area in pieces
            if area >= self.smallest * image.width * image.height
        ]


@dataclass(config=ConfigDict(extra="forbid"))
class PeerLabeller(Peer):
    """Regions with the labels of ADE20K, read from the colours of OpenSeeD's map.

    The map comes as a JPEG, whose blurred edges are given to what surrounds them; regions that
    cover less than `smallest` of the image are left out.
    """

    api: str = "controlnet"
    smallest: float = Field(default=0.002, ge=0, le=1)

    def label_regions(self, image: Image) -> Sequence[LabelledRegion]:
        """All that has one label together, the largest first."""
        import numpy as np

        told, worker = self.ask(_Mapped, image, mode="openseed")
        numbers = _labels_on(picture_of(worker, told.image_seg))
        names = ade20k.labels()
        regions = [
            LabelledRegion(
                label=names[number],
                mask=Mask.from_array(numbers == number).fitted_to(image),
                is_thing=False,
            )
            for number in np.unique(numbers)
            if (numbers == number).mean() >= self.smallest
        ]
        return sorted(regions, key=lambda region: -region.mask.area)


def _labels_on(drawn: Image) -> NDArray[np.uint8]:
    """The number of the label of each pixel (height, width) of OpenSeeD's map.

    That worker takes the palette one place too early: the first label, `wall`, is black, and
    every other one has the colour of the label before it.
    """
    import numpy as np
    from PIL import Image as Pillow
    from PIL import ImageFilter

    colours = [ade20k.colour_of(label) or (0, 0, 0) for label in ade20k.labels()]
    palette = np.array([(0, 0, 0), *colours[:-1]])
    red, green, blue = (np.asarray(band, np.int64) for band in drawn.split())
    packed = red << 16 | green << 8 | blue
    seen, places = np.unique(packed, return_inverse=True)
    colours_seen = np.stack([seen >> 16, seen >> 8 & 255, seen & 255], axis=-1)
    nearest = [np.square(palette - colour).sum(axis=1).argmin() for colour in colours_seen]
    numbers = np.array(nearest, np.uint8)[places].reshape(drawn.height, drawn.width)
    return np.asarray(Pillow.fromarray(numbers).filter(ImageFilter.ModeFilter(5)))


@dataclass(config=ConfigDict(extra="forbid"))
class PeerRestyler(Peer):
    """New pictures in the layout of an image, which for ControlNet's worker is a map of regions."""

    api: str = "controlnet"

    def keep_edges(self, image: Image, prompt: str) -> Image:
        """A picture of what the prompt says, with the edges between the regions of OpenSeeD."""
        mapped, _ = self.ask(_Mapped, image, mode="openseed")
        return self._paint(image, mapped.image_seg, prompt)

    def keep_regions(self, image: Image, regions: Sequence[LabelledRegion], prompt: str) -> Image:
        """A picture of what the prompt says, with `regions` where they are in `image`."""
        layout = shrunk(ade20k.region_map(regions, image.size), self.side)
        return self._paint(image, encode_picture(layout), prompt)

    def _paint(self, image: Image, layout: str, prompt: str) -> Image:
        asked = {"mode": "controlnet", "prompt": {"caption": prompt}, "mask": layout}
        told, worker = self.ask(_Edited, image, **asked)
        return picture_of(worker, told.edited_image).resize(image.size)
