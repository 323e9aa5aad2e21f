"""Finding things with YOLO through ultralytics: of fixed kinds, or of any name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..errors import BadConfiguration
from ..geometry import Corners
from ..weights import Fetchable, Weights, WeightSet
from . import Findings
from .clip_tokens import MERGES, merges_file, read_tokenizer, tokens
from .closed_vocabulary import ClosedVocabulary, Sighting, under_labels
from .embedding import Embedder
from .ultralytics_models import FromUltralytics

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["YoloDetector", "YoloWorldDetector", "YoloeDetector"]

_READERS = {"mobileclip:blt": "mobileclip_blt.ts", "mobileclip2:b": "mobileclip2_b.ts"}
"""What reads the words of a YOLOE, by the name that its file gives."""


@dataclass(config=ConfigDict(extra="forbid"))
class _Yolo(FromUltralytics):
    """What both kinds share: thresholds, and reading boxes."""

    threshold: float = Field(default=0.25, ge=0, le=1)
    overlap: float = Field(default=0.7, ge=0, le=1)
    _yolo: Any = field(default=None, init=False, repr=False)
    _device: str = field(default="cpu", init=False, repr=False)

    def _see(
        self, image: Image, kinds: Iterable[int], threshold: float | None
    ) -> Iterator[Sighting]:
        """Things of the kinds that the model now numbers so."""
        (result,) = self._yolo.predict(
            image,
            conf=self.threshold if threshold is None else threshold,
            iou=self.overlap,
            classes=sorted(kinds),
            device=self._device,
            verbose=False,
        )
        boxes = result.boxes
        for kind, place, score in zip(boxes.cls, boxes.xyxyn.tolist(), boxes.conf, strict=True):
            left, top, right, bottom = place
            box = Corners.from_pixels(left, top, right, bottom, 1, 1)
            yield Sighting(int(kind), box, float(score))


@dataclass(config=ConfigDict(extra="forbid"))
class YoloDetector(_Yolo, ClosedVocabulary):
    """YOLO of any generation: finds the kinds of things that it was trained on, fast."""

    model: str = "yolo26n.pt"

    def load(self, device: str) -> None:
        """Load the model. Raises `BadConfiguration` when it is not there, or no detector."""
        self._yolo, self._device = self._open("YOLO"), device

    @property
    def _kinds(self) -> Mapping[int, str]:
        names: Mapping[int, str] = self._yolo.names
        return names


class _PromptedYolo(_Yolo):
    """A YOLO whose kinds of things are words, which a model of its own reads."""

    @property
    def vocabulary(self) -> Sequence[str]:
        """Empty: it takes any label."""
        return ()

    def detect(self, image: Image, labels: Sequence[str], threshold: float | None) -> Findings:
        """Things with a score of `threshold` or more, the surest first within a label."""
        self._yolo.set_classes(list(labels))
        numbered = {label: number for number, label in enumerate(labels)}
        seen = self._see(image, numbered.values(), threshold)
        return Findings(objects=under_labels(numbered, seen))


@dataclass(config=ConfigDict(extra="forbid"))
class YoloWorldDetector(_PromptedYolo):
    """YOLO-World (Cheng et al. 2024); `words` is the CLIP model that it was trained with.

    That has the name of a hub, or is a folder.
    """

    model: str = "yolov8s-worldv2.pt"
    words: str = "openai/clip-vit-base-patch32"
    threshold: float = Field(default=0.05, ge=0, le=1)

    @property
    def weights(self) -> Fetchable:
        """Both models."""
        return WeightSet((self._file(self.model), Weights(self.words)))

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


@dataclass(config=ConfigDict(extra="forbid"))
class YoloeDetector(_PromptedYolo):
    """YOLOE (Wang et al. 2025); `words` is the MobileCLIP that it was trained with, as TorchScript.

    For YOLOE-26 that is `mobileclip2_b.ts`. `merges` is CLIP's list of merges for its tokens.
    """

    model: str = "yoloe-11s-seg.pt"
    words: str = "mobileclip_blt.ts"
    merges: str = MERGES

    @property
    def weights(self) -> Fetchable:
        """Both models and the list."""
        files = (self._file(self.model), self._file(self.words), merges_file(self.merges))
        return WeightSet(files)

    def load(self, device: str) -> None:
        """Load both models. Raises `BadConfiguration` when one is not there, or another one."""
        self._yolo, self._device = self._open("YOLOE"), device
        head = self._yolo.model.model[-1]
        if not hasattr(head, "get_tpe") or hasattr(head, "lrpc"):
            raise BadConfiguration(
                f"{self.model!r} takes no words; the backend 'yolo' finds what it knows"
            )
        tokenizer = read_tokenizer(merges_file(self.merges).fetched())
        reader = self._reader(device)

        def read(words: Sequence[str], **_: object) -> Any:
            import torch

            with torch.inference_mode():
                features = reader(tokens(tokenizer, words).to(device)).float()
                return head.get_tpe(features[None])

        # The library would fetch CLIP's original code for the tokens.
        self._yolo.model.get_text_pe = read

    def _reader(self, device: str) -> Any:
        """The model that makes (texts, width) of (texts, 77) tokens."""
        import torch

        # The first files do not say what they need; the library takes it to be this.
        named = getattr(self._yolo.model, "text_model", "mobileclip:blt")
        wanted = _READERS.get(named, self.words)
        if self.words in _READERS.values() and self.words != wanted:
            raise BadConfiguration(f"{self.model!r} needs `words` to be {wanted!r}")
        path = self._file(self.words).fetched()
        try:
            return torch.jit.load(str(path), map_location=device).eval()
        except (RuntimeError, ValueError) as error:
            raise BadConfiguration(f"{path} cannot be opened as TorchScript: {error}") from error
