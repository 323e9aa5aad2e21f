"""Finding anything by its name or an example: GroundingDINO and OWLv2, through transformers."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..geometry import Corners
from ..progress import reporting_each
from . import Detection, Findings
from .pretrained import Pretrained

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from transformers import BatchFeature

__all__ = ["GroundingDinoDetector", "Owlv2Detector", "Owlv2Matcher"]


@dataclass(config=ConfigDict(extra="forbid"))
class _Finder(Pretrained):
    """A model that rates boxes; those with a score of `threshold` or more are things.

    Boxes of one label that overlap by more than `overlap` (intersection over union) are one
    thing, of which the surest stays.
    """

    threshold: float = Field(default=0.3, ge=0, le=1)
    overlap: float = Field(default=0.7, ge=0, le=1)

    def _things(
        self, labels: Sequence[str], scores: torch.Tensor, boxes: torch.Tensor, least: float
    ) -> Iterator[Detection]:
        """Each box that is sure enough, under its likeliest label.

        `scores` (boxes, labels) and `boxes` (boxes, 4): x, y, x, y from 0 to 1 of the image.
        """
        best, label = scores.max(dim=-1)
        for index in (best >= least).nonzero().flatten().tolist():
            left, top, right, bottom = boxes[index].tolist()
            box = Corners.from_pixels(left, top, right, bottom, 1, 1)
            name, score = labels[int(label[index])], round(float(best[index]), 3)
            if box.area > 0:
                yield Detection(label=name, box=box, score=score)


@dataclass(config=ConfigDict(extra="forbid"))
class _OpenVocabulary(_Finder, ABC):
    """What open-vocabulary detectors share: they are asked for labels."""

    @property
    def vocabulary(self) -> Sequence[str]:
        """Empty: it takes any label."""
        return ()

    def detect(self, image: Image, labels: Sequence[str], threshold: float | None) -> Findings:
        """Things with a score of `threshold` or more, the surest first within a label."""
        import torch

        least = self.threshold if threshold is None else threshold
        found: list[Detection] = []
        with torch.inference_mode():
            for part in reporting_each(list(self._portions(labels)), "groups of labels"):
                found += self._things(part, *self._look(image, part), least)
        order = {label: number for number, label in enumerate(labels)}
        found.sort(key=lambda thing: (order[thing.label], -thing.score))
        return Findings(objects=tuple(_apart(found, self.overlap)))

    def _portions(self, labels: Sequence[str]) -> Iterator[Sequence[str]]:
        """The labels, so many at a time as the model can read."""
        yield labels

    @abstractmethod
    def _look(self, image: Image, labels: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """The score of every box for every label, and the boxes, as `_things` takes them."""


@dataclass(config=ConfigDict(extra="forbid"))
class GroundingDinoDetector(_OpenVocabulary):
    """GroundingDINO (Liu et al. 2023): labels are read as one caption, `dog. red car.`

    The score of a box for a label is that of the label's surest word.
    """

    model: str = "IDEA-Research/grounding-dino-tiny"
    kinds: ClassVar[tuple[str, ...]] = ("grounding-dino",)

    def _portions(self, labels: Sequence[str]) -> Iterator[Sequence[str]]:
        room = self._model.config.max_text_len
        part: list[str] = []
        for label in labels:
            if part and self._length([*part, label]) > room:
                yield part
                part = []
            part.append(label)
        yield part

    def _length(self, labels: Sequence[str]) -> int:
        return len(self._processor.tokenizer(_caption(labels))["input_ids"])

    def _look(self, image: Image, labels: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        caption = _caption(labels)
        room = self._model.config.max_text_len
        inputs = self._processor(
            images=image, text=caption, return_tensors="pt", truncation=True, max_length=room
        ).to(self._model.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self._model.dtype)
        outputs = self._model(**inputs)
        words = outputs.logits[0].float().sigmoid()
        spans = self._spans(caption, labels)
        nothing = words.new_zeros(len(words))
        scores = [words[:, span].amax(dim=-1) if span else nothing for span in spans]
        return torch.stack(scores, dim=-1), _from_centre(outputs.pred_boxes[0].float())

    def _spans(self, caption: str, labels: Sequence[str]) -> list[list[int]]:
        """The places of each label's tokens within the caption, as far as the model reads it."""
        tokens = self._processor.tokenizer(caption, return_offsets_mapping=True)
        places = tokens["offset_mapping"][: self._model.config.max_text_len]
        spans, start = [], 0
        for label in labels:
            end = start + len(_plain(label))
            spans.append(
                [i for i, (a, b) in enumerate(places) if a < b and start <= a and b <= end]
            )
            start = end + len(". ")
        return spans


@dataclass(config=ConfigDict(extra="forbid"))
class _Owlv2(_Finder):
    """OWLv2 (Minderer et al. 2023), which sees an image padded to a square."""

    model: str = "google/owlv2-base-patch16-ensemble"
    kinds: ClassVar[tuple[str, ...]] = ("owlv2",)

    def _inputs(self, **asked: Any) -> BatchFeature:
        """What the model takes, on its device and in its dtype."""
        inputs: BatchFeature = self._processor(**asked, return_tensors="pt", truncation=True)
        for key in inputs.keys() & {"pixel_values", "query_pixel_values"}:
            inputs[key] = inputs[key].to(self._model.dtype)
        return inputs.to(self._model.device)

    def _boxes(self, predicted: torch.Tensor, image: Image) -> torch.Tensor:
        """Boxes as parts of the image, which was padded to the right or below."""
        boxes = _from_centre(predicted.float())
        side = max(image.size)
        return boxes * boxes.new_tensor([side / image.width, side / image.height] * 2)


@dataclass(config=ConfigDict(extra="forbid"))
class Owlv2Detector(_Owlv2, _OpenVocabulary):
    """OWLv2 as a `Detector`: every label is a query of its own."""

    threshold: float = Field(default=0.2, ge=0, le=1)

    def _look(self, image: Image, labels: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        queries = [f"a photo of {label}" for label in labels]
        outputs = self._model(**self._inputs(images=image, text=[queries]))
        return outputs.logits[0].float().sigmoid(), self._boxes(outputs.pred_boxes[0], image)


@dataclass(config=ConfigDict(extra="forbid"))
class Owlv2Matcher(_Owlv2):
    """OWLv2 as a `Matcher`: the query is the object that stands out most in the example.

    The thresholds are those of the library's own example; scores for an example lie much higher
    than for a label.
    """

    threshold: float = Field(default=0.9, ge=0, le=1)
    overlap: float = Field(default=0.3, ge=0, le=1)

    def match(self, image: Image, reference: Image, box: Corners) -> list[Detection]:
        """What looks like the thing in `box` of `reference`, the surest first."""
        import torch

        example = reference.crop(box.pixels(reference.width, reference.height))
        with torch.inference_mode():
            inputs = self._inputs(images=image, query_images=example)
            outputs = self._model.image_guided_detection(**inputs)
        scores = outputs.logits[0].float().sigmoid()
        boxes = self._boxes(outputs.target_pred_boxes[0], image)
        found = self._things(("match",), scores, boxes, self.threshold)
        return _apart(sorted(found, key=lambda thing: -thing.score), self.overlap)


def _plain(label: str) -> str:
    """A label as it stands in a caption, where a full stop or question mark parts labels."""
    return " ".join(re.sub("[.?]", " ", label.lower()).split()) or "thing"


def _caption(labels: Sequence[str]) -> str:
    return ". ".join(map(_plain, labels)) + "."


def _from_centre(boxes: torch.Tensor) -> torch.Tensor:
    """Boxes as corners, from centre and size."""
    import torch

    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def _apart(found: Sequence[Detection], overlap: float) -> list[Detection]:
    """Without boxes that repeat a surer one of the same label (greedy suppression)."""
    kept: list[Detection] = []
    for thing in found:
        if all(
            other.label != thing.label or other.box.overlap(thing.box) <= overlap for other in kept
        ):
            kept.append(thing)
    return kept
