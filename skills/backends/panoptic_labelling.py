"""Labelling things one by one and stuff as a whole: Mask2Former and OneFormer, in transformers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..errors import BadConfiguration
from . import Licence, Packages
from .panoptic_labels import stuff_among
from .region_labelling import RegionModel

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

__all__ = ["Mask2FormerLabeller", "OneFormerLabeller"]


@dataclass(config=ConfigDict(extra="forbid"))
class _PanopticLabeller(RegionModel):
    """Labellers that tell the instances of things apart: each query is a mask and its label.

    A region counts when the score of its label is above `threshold`, and unless surer ones cover
    so much of it that less than `overlap` is left; a pixel belongs to one from `mask_threshold`
    on. The library weighs masks by their scores first: for less sure regions, lower both
    thresholds. `stuff` names the labels, as the model spells them, whose regions are one; without
    it, those of the data set that the model knows.
    """

    threshold: float = Field(default=0.5, ge=0, le=1)
    mask_threshold: float = Field(default=0.5, ge=0, le=1)
    overlap: float = Field(default=0.8, ge=0, le=1)
    stuff: tuple[str, ...] | None = None
    _stuff: frozenset[int] = field(default=frozenset(), init=False, repr=False)

    # transformers makes the models with the losses that they were trained with, which use scipy.
    packages: ClassVar[Packages] = Packages("local", ("torch", "transformers", "scipy"))

    def load(self, device: str) -> None:
        """Load the model. Raises `BadConfiguration` also when it lacks a label of `stuff`."""
        super().load(device)
        names = self._model.config.id2label
        stuff = stuff_among(names.values()) if self.stuff is None else self.stuff
        if unknown := sorted(set(stuff) - set(names.values())):
            known = ", ".join(names.values())
            raise BadConfiguration(
                f"the model {self.model!r} has no label {unknown[0]!r}, which the setting `stuff` "
                f"names; it has: {known}"
            )
        self._stuff = frozenset(number for number, name in names.items() if name in stuff)

    def _divide(
        self, outputs: Any, size: tuple[int, int]
    ) -> Iterator[tuple[torch.Tensor, int, bool]]:
        logits = outputs.class_queries_logits.float()
        scores, labels = logits[0].softmax(dim=-1).max(dim=-1)
        sure = (labels < logits.shape[-1] - 1) & (scores > self.threshold)
        if not sure.any():
            return
        outputs.class_queries_logits = logits[:, sure]
        outputs.masks_queries_logits = outputs.masks_queries_logits[:, sure].float()
        found = self._share_out(outputs, size)
        # The library gives also those pixels to a region that no region claims; the papers do not.
        claims = outputs.masks_queries_logits.sigmoid().amax(dim=1, keepdim=True)
        claimed = _scaled(claims, size)[0, 0] >= self.mask_threshold
        regions: dict[tuple[int, int], torch.Tensor] = {}
        for segment in found["segments_info"]:
            label, number = segment["label_id"], segment["id"]
            pixels = (found["segmentation"] == number) & claimed
            key = (label, 0 if label in self._stuff else number)  # numbers are from 1 on
            regions[key] = regions[key] | pixels if key in regions else pixels
        for (label, number), pixels in regions.items():
            yield pixels, label, number > 0

    def _share_out(self, outputs: Any, size: tuple[int, int]) -> Any:
        """The library's map of regions, and what each of them is."""
        return self._post_process(outputs, target_sizes=[size])

    def _post_process(self, outputs: Any, **options: Any) -> Any:
        # Where the library joins stuff, it numbers the next region as an earlier one.
        (found,) = self._processor.post_process_panoptic_segmentation(
            outputs,
            threshold=self.threshold,
            mask_threshold=self.mask_threshold,
            overlap_mask_area_threshold=self.overlap,
            label_ids_to_fuse=set(),
            **options,
        )
        return found


@dataclass(config=ConfigDict(extra="forbid"))
class Mask2FormerLabeller(_PanopticLabeller):
    """Mask2Former (Cheng et al. 2022): panoptic regions."""

    model: str = "facebook/mask2former-swin-tiny-coco-panoptic"
    kinds: ClassVar[tuple[str, ...]] = ("mask2former",)
    licence: ClassVar[Licence] = Licence("Apache-2.0", "MIT (see the model card)")


@dataclass(config=ConfigDict(extra="forbid"))
class OneFormerLabeller(_PanopticLabeller):
    """OneFormer (Jain et al. 2023): one model for all tasks, told by a text which one it is."""

    model: str = "shi-labs/oneformer_ade20k_swin_tiny"
    kinds: ClassVar[tuple[str, ...]] = ("oneformer",)
    licence: ClassVar[Licence] = Licence("Apache-2.0", "MIT")
    # For training only, and fetched from another repository.
    processor_options: ClassVar[tuple[tuple[str, Any], ...]] = (("class_info_file", None),)

    def _read(self, image: Image) -> Any:
        return self._processor(images=image, task_inputs=["panoptic"], return_tensors="pt")

    def _share_out(self, outputs: Any, size: tuple[int, int]) -> Any:
        # The library would scale with torchvision, which may not be there.
        outputs.masks_queries_logits = _scaled(outputs.masks_queries_logits, size)
        return self._post_process(outputs)


def _scaled(masks: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Masks (1, any number, height, width) in another height and width."""
    from torch.nn.functional import interpolate

    return interpolate(masks, size=size, mode="bilinear", align_corners=False)
