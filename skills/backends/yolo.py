"""Finding things with YOLO through ultralytics: of fixed kinds, or with YOLO-World of any name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..geometry import Corners
from ..wording import singular
from . import Detection, Findings
from .embedding import Embedder
from .opencv_words import Meaning, caveat, meaning
from .ultralytics_models import FromUltralytics

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["YoloDetector", "YoloWorldDetector"]


@dataclass(config=ConfigDict(extra="forbid"))
class _Yolo(FromUltralytics):
    """What both kinds share: thresholds, and reading boxes."""

    threshold: float = Field(default=0.25, ge=0, le=1)
    overlap: float = Field(default=0.7, ge=0, le=1)
    _yolo: Any = field(default=None, init=False, repr=False)
    _device: str = field(default="cpu", init=False, repr=False)

    def _look(
        self, image: Image, labels: Mapping[str, int], threshold: float | None
    ) -> tuple[Detection, ...]:
        """Things of the kinds that the labels mean, by the label's place and surest first."""
        (result,) = self._yolo.predict(
            image,
            conf=self.threshold if threshold is None else threshold,
            iou=self.overlap,
            classes=sorted(set(labels.values())),
            device=self._device,
            verbose=False,
        )
        boxes = result.boxes
        found = [
            Detection(
                label=label,
                box=Corners.from_pixels(left, top, right, bottom, 1, 1),
                score=round(score, 3),
            )
            for label, wanted in labels.items()
            for (left, top, right, bottom), score, kind in sorted(
                zip(boxes.xyxyn.tolist(), boxes.conf.tolist(), boxes.cls.tolist(), strict=True),
                key=lambda thing: -thing[1],
            )
            if int(kind) == wanted
        ]
        return tuple(thing for thing in found if thing.box.area > 0)


@dataclass(config=ConfigDict(extra="forbid"))
class YoloDetector(_Yolo):
    """YOLO of any generation: finds the kinds of things that it was trained on, fast."""

    model: str = "yolo26n.pt"

    def load(self, device: str) -> None:
        """Load the model. Raises `BadConfiguration` when it is not there, or no detector."""
        self._yolo, self._device = self._open("YOLO"), device

    @property
    def vocabulary(self) -> Sequence[str]:
        """The kinds of things that it knows."""
        return tuple(self._yolo.names.values())

    def detect(self, image: Image, labels: Sequence[str], threshold: float | None) -> Findings:
        """Things with a score of `threshold` or more, the surest first within a label."""
        kinds = {name.lower(): number for number, name in self._yolo.names.items()}
        known = {label: found for label in labels if (found := _meant(label, kinds))}
        wanted = {label: kinds[found.kind] for label, found in known.items()}
        return Findings(
            objects=self._look(image, wanted, threshold) if wanted else (),
            unknown=tuple(label for label in labels if label not in known),
            note=caveat(known.items()),
        )


@dataclass(config=ConfigDict(extra="forbid"))
class YoloWorldDetector(_Yolo):
    """YOLO-World (Cheng et al. 2024): its kinds of things are words, which `words` reads.

    That is the CLIP model that it was trained with, by the name of a hub or as a folder.
    """

    model: str = "yolov8s-worldv2.pt"
    words: str = "openai/clip-vit-base-patch32"
    threshold: float = Field(default=0.05, ge=0, le=1)

    @property
    def vocabulary(self) -> Sequence[str]:
        """Empty: it takes any label."""
        return ()

    def load(self, device: str) -> None:
        """Load both models. Raises `BadConfiguration` when one is not there."""
        self._yolo, self._device = self._open("YOLO"), device
        embedder = Embedder(self.words)
        embedder.load(device)

        def read(words: Sequence[str], **_: object) -> Any:
            import torch

            return torch.from_numpy(embedder.texts(words))[None]

        # The library would fetch CLIP's original code and weights.
        self._yolo.model.get_text_pe = read

    def detect(self, image: Image, labels: Sequence[str], threshold: float | None) -> Findings:
        """Things with a score of `threshold` or more, the surest first within a label."""
        self._yolo.set_classes(list(labels))
        numbered = {label: number for number, label in enumerate(labels)}
        return Findings(objects=self._look(image, numbered, threshold))


def _meant(label: str, kinds: Mapping[str, int]) -> Meaning | None:
    """Which kind of thing a label means; words for people mean `person`, where that is known."""
    words = " ".join(label.lower().split())
    for name in (words, singular(words)):
        if name in kinds:
            return Meaning(name)
    found = meaning(label)
    return found if found and found.kind in kinds else None
