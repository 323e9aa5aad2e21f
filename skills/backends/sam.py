"""Outlining with Segment Anything, the first and the second, through transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..geometry import Mask
from ..progress import reporting_each
from . import Packages
from .mask_generation import MaskGeneration, not_suppressed, point_grid
from .pretrained import Pretrained
from .proposals import ProposalOutliner

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from transformers import BatchFeature

    Sizes = list[list[int]]
    """Of one image: height and width."""

__all__ = ["Sam2Outliner", "SamOutliner"]

_AT_ONCE = 64
"""Points of the grid that the model gets at once, as in the makers' library."""


@dataclass(config=ConfigDict(extra="forbid"))
class SamOutliner(Pretrained, MaskGeneration, ProposalOutliner):
    """Segment Anything (Kirillov et al. 2023); an image is encoded once for all places in it."""

    model: str = "facebook/sam-vit-base"
    _encoded: Any = field(default=None, init=False, repr=False)
    """What the model made of the image, its size, and the one in which it was fed."""

    kinds: ClassVar[tuple[str, ...]] = ("sam",)

    def everything(self, image: Image) -> list[Mask]:
        """The proposals for points on a grid that pass the filters of `MaskGeneration`."""
        import torch

        self._look_at(image)
        height, width = self._encoded[2][0]
        grid = torch.tensor(point_grid(self.points_per_side) * (width, height))
        points = grid.float().to(self._model.device)
        parts = reporting_each(points.split(_AT_ONCE), "parts of the grid")
        passed = [self._passing(part) for part in parts]
        runs = [mask for masks, _, _ in passed for mask in masks]
        scores = torch.cat([scores for _, scores, _ in passed]).double().cpu().numpy()
        boxes = torch.cat([boxes for _, _, boxes in passed]).double().cpu().numpy()
        kept = not_suppressed(boxes, scores, self.box_nms_thresh)
        return [Mask.from_runs(image.size[::-1], runs[index]["counts"]) for index in kept]

    def _passing(self, points: torch.Tensor) -> tuple[Any, Any, Any]:
        """The proposals for points (points, 2) that are sure and stable: runs, scores, boxes."""
        import torch

        _, original, fed = self._encoded
        with torch.inference_mode():
            outputs = self._predict(input_points=points[None, :, None], multimask_output=True)
            scores = outputs.iou_scores[0].flatten().float()
            sure = scores > self.pred_iou_thresh  # the others need not be enlarged
            proposed = outputs.pred_masks[0].flatten(0, 1)[sure].float()
            logits = self._enlarged(proposed[:, None], original, fed, binarize=False)
            masks, scores, boxes = self._processor.image_processor.filter_masks(
                logits,
                scores[sure][:, None],
                original[0],
                (0, 0, *original[0][::-1]),
                self.pred_iou_thresh,
                self.stability_score_thresh,
            )
        return masks, scores, boxes

    def _read(self, image: Image) -> None:
        import torch

        inputs = self._processor(image, return_tensors="pt")
        pixels = inputs["pixel_values"].to(self._model.device, self._model.dtype)
        sizes = (inputs["original_sizes"].tolist(), self._fed(inputs))
        with torch.inference_mode():
            self._encoded = (self._model.get_image_embeddings(pixels), *sizes)

    def _fed(self, inputs: BatchFeature) -> Sizes:
        """The size in which the model sees the image, without padding."""
        sizes: Sizes = inputs["reshaped_input_sizes"].tolist()
        return sizes

    def _enlarged(
        self, masks: torch.Tensor, original: Sizes, fed: Sizes, *, binarize: bool = True
    ) -> torch.Tensor:
        """Proposals (places, proposals, ...) in the size of the image, as booleans or logits."""
        whole: list[torch.Tensor] = self._processor.post_process_masks(
            [masks], original, fed, binarize=binarize
        )
        return whole[0]

    def _predict(self, **prompts: Any) -> Any:
        """What the model says of places in the image, in pixels of the size that it was fed."""
        return self._model(image_embeddings=self._encoded[0], **prompts)

    def _propose(self, pixels: Sequence[float]) -> tuple[Any, Any]:
        import torch

        _, original, fed = self._encoded
        (height, width), (across, down) = fed[0], (original[0][1], original[0][0])
        by_point = len(pixels) == 2
        # In float32: pixels have more digits than bfloat16.
        scale = torch.tensor([width / across, height / down] * (len(pixels) // 2))
        place = (torch.tensor(pixels) * scale).to(self._model.device)
        with torch.inference_mode():
            outputs = self._predict(
                multimask_output=by_point,
                input_points=place[None, None, None] if by_point else None,
                input_boxes=None if by_point else place[None, None],
            )
            masks = self._enlarged(outputs.pred_masks[0].float().cpu(), original, fed)
        return masks[0].numpy(), outputs.iou_scores[0, 0]


@dataclass(config=ConfigDict(extra="forbid"))
class Sam2Outliner(SamOutliner):
    """SAM 2 (Ravi et al. 2024), the image part of its models for video."""

    model: str = "facebook/sam2.1-hiera-small"
    pred_iou_thresh: float = Field(default=0.8, ge=0, le=1)
    """Its makers ask for less than those of the first one."""

    kinds: ClassVar[tuple[str, ...]] = ("sam2", "sam2_video")
    reader: ClassVar[str] = "AutoModelForMaskGeneration"
    packages: ClassVar[Packages] = Packages("meta", ("torch", "torchvision", "transformers"))

    def _fed(self, inputs: BatchFeature) -> Sizes:
        return [list(inputs["pixel_values"].shape[-2:])]

    def _enlarged(
        self, masks: torch.Tensor, original: Sizes, fed: Sizes, *, binarize: bool = True
    ) -> torch.Tensor:
        whole: list[torch.Tensor] = self._processor.post_process_masks(
            [masks], original, binarize=binarize
        )
        return whole[0]
