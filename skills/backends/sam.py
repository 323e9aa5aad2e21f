"""Outlining with Segment Anything (Kirillov et al. 2023), through transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from .pretrained import Pretrained
from .proposals import ProposalOutliner

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["SamOutliner"]


@dataclass(config=ConfigDict(extra="forbid"))
class SamOutliner(Pretrained, ProposalOutliner):
    """An `Outliner` for anything; the image is encoded once for all places in it."""

    model: str = "facebook/sam-vit-base"
    _encoded: Any = field(default=None, init=False, repr=False)
    """What the model made of the image, its height and width, and those that it was fed."""

    kinds: ClassVar[tuple[str, ...]] = ("sam",)

    def _read(self, image: Image) -> None:
        import torch

        inputs = self._processor(image, return_tensors="pt")
        pixels = inputs["pixel_values"].to(self._model.device, self._model.dtype)
        sizes = (inputs["original_sizes"].tolist(), inputs["reshaped_input_sizes"].tolist())
        with torch.inference_mode():
            self._encoded = (self._model.get_image_embeddings(pixels), *sizes)

    def _propose(self, pixels: Sequence[float]) -> tuple[Any, Any]:
        import torch

        embeddings, original, fed = self._encoded
        (height, width), (across, down) = fed[0], (original[0][1], original[0][0])
        by_point = len(pixels) == 2
        # In float32: pixels have more digits than bfloat16.
        scale = torch.tensor([width / across, height / down] * (len(pixels) // 2))
        place = (torch.tensor(pixels) * scale).to(self._model.device)
        with torch.inference_mode():
            outputs = self._model(
                image_embeddings=embeddings,
                multimask_output=by_point,
                input_points=place[None, None, None] if by_point else None,
                input_boxes=None if by_point else place[None, None],
            )
            masks = self._processor.post_process_masks(
                [outputs.pred_masks[0].float().cpu()], original, fed
            )[0][0]
        return masks.numpy(), outputs.iou_scores[0, 0]
