"""Outlining with Segment Anything (Kirillov et al. 2023), through transformers."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from ..geometry import Corners, Mask, Position
from .pretrained import Pretrained

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["SamOutliner"]


@dataclass(config=ConfigDict(extra="forbid"))
class SamOutliner(Pretrained):
    """An `Outliner` for anything; the image is encoded once for all places in it."""

    model: str = "facebook/sam-vit-base"
    _encoded: Any = field(default=None, init=False, repr=False)
    """The last image, and what the model made of it."""

    kinds: ClassVar[tuple[str, ...]] = ("sam",)

    def outline(self, image: Image, place: Corners | Position) -> Mask | None:
        """The thing in a box or at a point: of the model's proposals the one it rates best."""
        import torch

        with torch.inference_mode():
            embeddings, original, fed = self._encode(image)
            height, width = fed[0]
            by_point = isinstance(place, Position)
            # In float32: pixels have more digits than bfloat16.
            sizes = torch.tensor([width, height] * (len(place) // 2))
            pixels = (torch.tensor(place) * sizes).to(self._model.device)
            # One proposal for a box; for a point, which may mean a part or the whole, three.
            outputs = self._model(
                image_embeddings=embeddings,
                multimask_output=by_point,
                input_points=pixels[None, None, None] if by_point else None,
                input_boxes=None if by_point else pixels[None, None],
            )
            proposals = self._processor.post_process_masks(
                [outputs.pred_masks[0].float().cpu()], original, fed
            )[0][0]
        best = int(outputs.iou_scores[0, 0].argmax())
        mask = Mask.from_array(proposals[best].numpy())
        return mask if mask.area > 0 else None

    def _encode(self, image: Image) -> tuple[Any, list[list[int]], list[list[int]]]:
        """What the model makes of the image, its height and width, and those that it is fed."""
        if self._encoded is None or self._encoded[0] is not image:
            inputs = self._processor(image, return_tensors="pt")
            pixels = inputs["pixel_values"].to(self._model.device, self._model.dtype)
            sizes = (inputs["original_sizes"].tolist(), inputs["reshaped_input_sizes"].tolist())
            self._encoded = (image, self._model.get_image_embeddings(pixels), *sizes)
        return self._encoded[1:]  # type: ignore[no-any-return]
