"""Outlining with Segment Anything (Kirillov et al. 2023), by its makers' own library and files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from ..errors import BadConfiguration
from ..extras import needing
from ..geometry import Mask
from ..weight_files import WeightFile
from . import Licence, Packages
from .mask_generation import MaskGeneration
from .proposals import ProposalOutliner

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

__all__ = ["SegmentAnythingOutliner"]

_MD5 = {
    "sam_vit_b_01ec64.pth": "01ec64",
    "sam_vit_l_0b3195.pth": "0b3195",
    "sam_vit_h_4b8939.pth": "4b8939",
}
"""The files of Meta, which have the first digits of their hash in their names."""
_KINDS = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
"""The library's names of the three encoders, by the width that their weights have."""


@dataclass(config=ConfigDict(extra="forbid"))
class SegmentAnythingOutliner(MaskGeneration, ProposalOutliner):
    """An `Outliner` for anything; `model` is one of Meta's files, or a file of your own."""

    model: str = "sam_vit_b_01ec64.pth"
    source: str = "https://dl.fbaipublicfiles.com/segment_anything"
    _predictor: Any = field(default=None, init=False, repr=False)

    licence: ClassVar[Licence] = Licence("Apache-2.0", "Apache-2.0")
    packages: ClassVar[Packages] = Packages("meta", ("torch", "torchvision", "segment_anything"))

    @property
    def weights(self) -> WeightFile:
        """The file of the model."""
        return WeightFile(self.model, self.source, _MD5.get(self.model, ""))

    def load(self, device: str) -> None:
        """Load the model, fetched first where it is not here. Raises `BadConfiguration`."""
        with needing(self.packages.extra, f"the model {self.model!r}"):
            from segment_anything import SamPredictor, sam_model_registry
        numbers = self._numbers()
        try:
            kind = _KINDS[numbers["image_encoder.pos_embed"].shape[-1]]
            model = sam_model_registry[kind]()
            model.load_state_dict(numbers)
        except (KeyError, RuntimeError) as error:
            raise BadConfiguration(
                f"{self.model!r} does not hold the weights of one of {', '.join(_KINDS.values())}: "
                f"{error}"
            ) from error
        self._predictor = SamPredictor(model.to(device).eval())

    def everything(self, image: Image) -> list[Mask]:
        """All that the library's own generator finds."""
        import numpy as np
        from segment_anything import SamAutomaticMaskGenerator

        generator = SamAutomaticMaskGenerator(
            self._predictor.model,
            points_per_side=self.points_per_side,
            pred_iou_thresh=self.pred_iou_thresh,
            stability_score_thresh=self.stability_score_thresh,
            box_nms_thresh=self.box_nms_thresh,
            output_mode="coco_rle",
        )
        return [Mask(**found["segmentation"]) for found in generator.generate(np.asarray(image))]

    def _numbers(self) -> dict[str, torch.Tensor]:
        import pickle

        import torch

        path = self.weights.fetched()
        try:
            numbers = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise BadConfiguration(f"the weights {path} cannot be read: {error}") from error
        if not isinstance(numbers, dict):
            raise BadConfiguration(f"{self.model!r} holds no weights of Segment Anything")
        return numbers

    def _read(self, image: Image) -> None:
        import numpy as np

        self._predictor.set_image(np.asarray(image))

    def _propose(self, pixels: Sequence[float]) -> tuple[Any, Any]:
        import numpy as np

        place = np.array(pixels)
        if len(pixels) == 2:
            asked = {"point_coords": place[None], "point_labels": np.array([1])}
            masks, ratings, _ = self._predictor.predict(**asked, multimask_output=True)
        else:
            masks, ratings, _ = self._predictor.predict(box=place, multimask_output=False)
        return masks, ratings
