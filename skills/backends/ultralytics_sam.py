"""Outlining with SAM 2, MobileSAM and SAM through ultralytics."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from ..geometry import Corners, Mask, Position
from .ultralytics_models import FromUltralytics

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["UltralyticsSamOutliner"]


@dataclass(config=ConfigDict(extra="forbid"))
class UltralyticsSamOutliner(FromUltralytics):
    """An `Outliner` for anything; the file's name tells which model it is."""

    model: str = "mobile_sam.pt"
    _predictor: Any = field(default=None, init=False, repr=False)
    _encoded: Any = field(default=None, init=False, repr=False)
    """The image that the predictor has read last."""

    def load(self, device: str) -> None:
        """Load the model. Raises `BadConfiguration` when it is not there."""
        sam = self._open("SAM")
        settings = {"task": "segment", "mode": "predict", "imgsz": 1024, "conf": 0.0}
        settings |= {"device": device, "retina_masks": True, "verbose": False, "save": False}
        self._predictor = sam.task_map["segment"]["predictor"](overrides=settings)
        self._predictor.setup_model(sam.model, verbose=False)

    def outline(self, image: Image, place: Corners | Position) -> Mask | None:
        """The thing in a box or at a point: of the model's proposals the one it rates best."""
        import numpy as np

        if self._encoded is not image:
            self._predictor.reset_image()
            self._predictor.set_image(np.ascontiguousarray(np.asarray(image)[:, :, ::-1]))
            self._encoded = image
        sizes = (image.width, image.height) * (len(place) // 2)
        pixels = [part * size for part, size in zip(place, sizes, strict=True)]
        if isinstance(place, Position):
            (result,) = self._predictor(points=[pixels], labels=[1], multimask_output=True)
        else:
            (result,) = self._predictor(bboxes=[pixels])
        if not len(result):
            return None
        best = int(result.boxes.conf.argmax())
        mask = Mask.from_array(result.masks.data[best].cpu().numpy())
        return mask if mask.area > 0 else None
