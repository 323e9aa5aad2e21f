"""Outlining with Segment Anything, the first and the second, through transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from . import Packages
from .pretrained import Pretrained
from .proposals import ProposalOutliner

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from transformers import BatchFeature

    Sizes = list[list[int]]
    """Of one image: height and width."""

__all__ = ["Sam2Outliner", "SamOutliner"]


@dataclass(config=ConfigDict(extra="forbid"))
class SamOutliner(Pretrained, ProposalOutliner):
    """Segment Anything (Kirillov et al. 2023); an image is encoded once for all places in it."""

    model: str = "facebook/sam-vit-base"
    _encoded: Any = field(default=None, init=False, repr=False)
    """What the model made of the image, its size, and the one in which it was fed."""

    kinds: ClassVar[tuple[str, ...]] = ("sam",)

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

    def _enlarged(self, masks: torch.Tensor, original: Sizes, fed: Sizes) -> torch.Tensor:
        """Proposals in the size of the image: (1, proposals, height, width) of booleans."""
        whole: list[torch.Tensor] = self._processor.post_process_masks([masks], original, fed)
        return whole[0]

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
            masks = self._enlarged(outputs.pred_masks[0].float().cpu(), original, fed)
        return masks[0].numpy(), outputs.iou_scores[0, 0]


@dataclass(config=ConfigDict(extra="forbid"))
class Sam2Outliner(SamOutliner):
    """SAM 2 (Ravi et al. 2024), the image part of its models for video."""

    model: str = "facebook/sam2.1-hiera-small"

    kinds: ClassVar[tuple[str, ...]] = ("sam2", "sam2_video")
    reader: ClassVar[str] = "AutoModelForMaskGeneration"
    packages: ClassVar[Packages] = Packages("meta", ("torch", "torchvision", "transformers"))

    def _fed(self, inputs: BatchFeature) -> Sizes:
        return [list(inputs["pixel_values"].shape[-2:])]

    def _enlarged(self, masks: torch.Tensor, original: Sizes, fed: Sizes) -> torch.Tensor:
        whole: list[torch.Tensor] = self._processor.post_process_masks([masks], original)
        return whole[0]
