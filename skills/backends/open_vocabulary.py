"""Finding anything that has a name: GroundingDINO and OWLv2, through transformers."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..geometry import Corners
from . import Detection, Findings
from .pretrained import Pretrained

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

__all__ = ["GroundingDinoDetector", "Owlv2Detector"]


@dataclass(config=ConfigDict(extra="forbid"))
class _OpenVocabulary(Pretrained, ABC):
    """What open-vocabulary detectors share: thresholds, the likeliest label of a box.

    Boxes of one label that overlap by more than `overlap` (intersection over union) are one
    thing, of which the surest stays.
    """

    threshold: float = Field(default=0.3, ge=0, le=1)
    overlap: float = Field(default=0.7, ge=0, le=1)

    @property
    def vocabulary(self) -> Sequence[str]:
        """Empty: it takes any label."""
        return ()

    def detect(self, image: Image, labels: Sequence[str], threshold: float | None) -> Findings:
        """Things with a score of `threshold` or more, the surest first within a label."""
        import torch

        least = self.threshold if threshold is None else threshold
        found = []
        with torch.inference_mode():
            for part in self._portions(labels):
                scores, boxes = self._look(image, part)
                best, label = scores.max(dim=-1)
                for index in (best >= least).nonzero().flatten().tolist():
                    left, top, right, bottom = boxes[index].tolist()
                    box = Corners.from_pixels(left, top, right, bottom, 1, 1)
                    name, score = part[int(label[index])], round(float(best[index]), 3)
                    if box.area > 0:
                        found.append(Detection(label=name, box=box, score=score))
        order = {label: number for number, label in enumerate(labels)}
        found.sort(key=lambda thing: (order[thing.label], -thing.score))
        return Findings(objects=tuple(_apart(found, self.overlap)))

    def _portions(self, labels: Sequence[str]) -> Iterator[Sequence[str]]:
        """The labels, so many at a time as the model can read."""
        yield labels

    @abstractmethod
    def _look(self, image: Image, labels: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """The score of every box for every label, and the boxes: (boxes, labels), (boxes, 4).

        Boxes are x, y, x, y from 0 to 1 of the image.
        """


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
class Owlv2Detector(_OpenVocabulary):
    """OWLv2 (Minderer et al. 2023): every label is a query of its own."""

    model: str = "google/owlv2-base-patch16-ensemble"
    kinds: ClassVar[tuple[str, ...]] = ("owlv2",)
    threshold: float = Field(default=0.2, ge=0, le=1)

    def _look(self, image: Image, labels: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        queries = [f"a photo of {label}" for label in labels]
        inputs = self._processor(
            images=image, text=[queries], return_tensors="pt", truncation=True
        ).to(self._model.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self._model.dtype)
        outputs = self._model(**inputs)
        boxes = _from_centre(outputs.pred_boxes[0].float())
        # The image was padded to a square, to the right or below: boxes are parts of that.
        side = max(image.size)
        boxes = boxes * boxes.new_tensor([side / image.width, side / image.height] * 2)
        return outputs.logits[0].float().sigmoid(), boxes


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
