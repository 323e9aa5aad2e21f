"""Outlining with SAM 2, MobileSAM and SAM through ultralytics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from ..geometry import Mask
from .mask_generation import MaskGeneration
from .proposals import ProposalOutliner
from .ultralytics_models import FromUltralytics

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["UltralyticsSamOutliner"]


@dataclass(config=ConfigDict(extra="forbid"))
class UltralyticsSamOutliner(FromUltralytics, MaskGeneration, ProposalOutliner):
    """An `Outliner` for anything; the file's name tells which model it is."""

    model: str = "mobile_sam.pt"
    _predictor: Any = field(default=None, init=False, repr=False)

    def load(self, device: str) -> None:
        """Load the model. Raises `BadConfiguration` when it is not there."""
        sam = self._open("SAM")
        settings = {"task": "segment", "mode": "predict", "imgsz": 1024, "conf": 0.0}
        settings |= {"device": device, "retina_masks": True, "verbose": False, "save": False}
        settings["iou"] = self.box_nms_thresh
        self._predictor = sam.task_map["segment"]["predictor"](overrides=settings)
        self._predictor.setup_model(sam.model, verbose=False)

    def everything(self, image: Image) -> list[Mask]:
        """All that the library finds when it is given no place."""
        self._look_at(image)
        try:
            (result,) = self._predictor(
                points_stride=self.points_per_side,
                conf_thres=self.pred_iou_thresh,
                stability_score_thresh=self.stability_score_thresh,
                stability_score_offset=1.0,  # the paper's; the library has another
            )
        finally:
            # Left on after an error, it would misplace every later box and point.
            self._predictor.segment_all = False
        return [Mask.from_array(mask) for mask in _masks(result)]

    def _read(self, image: Image) -> None:
        import numpy as np

        self._predictor.reset_image()
        self._predictor.set_image(np.ascontiguousarray(np.asarray(image)[:, :, ::-1]))

    def _propose(self, pixels: Sequence[float]) -> tuple[Any, Any]:
        if len(pixels) == 2:
            (result,) = self._predictor(points=[pixels], labels=[1], multimask_output=True)
        else:
            (result,) = self._predictor(bboxes=[pixels])
        return _masks(result), result.boxes.conf


def _masks(result: Any) -> Any:
    """The masks of a result, (masks, height, width); none where the library has no array."""
    return () if result.masks is None else result.masks.data.cpu().numpy()
