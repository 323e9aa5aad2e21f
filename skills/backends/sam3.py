"""SAM 3 (Carion et al. 2025) through transformers: finds and outlines by words, and by places.

The weights hold two models that share an encoder: a detector, which takes a short noun phrase and
finds every instance, and a tracker, which takes boxes and points as SAM 2 does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..geometry import Corners, Mask
from ..progress import reporting_each
from . import Detection, Findings, Licence, Packages
from .pretrained import Pretrained
from .sam import Sam2Outliner

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

__all__ = ["Sam3Detector", "Sam3Outliner"]


class _Instance(NamedTuple):
    """A thing with a name; `logits` are those of its mask, in a size of the model's own."""

    score: float
    box: Corners
    logits: torch.Tensor


@dataclass(config=ConfigDict(extra="forbid"))
class _Sam3(Pretrained):
    """What both backends share: the weights, and finding by words.

    Things count from a score of `threshold`, the makers' own.
    """

    model: str = "facebook/sam3"
    threshold: float = Field(default=0.5, ge=0, le=1)
    _seen: Any = field(default=None, init=False, repr=False)
    """The pixels that were asked about last, and what the encoder made of them."""

    kinds: ClassVar[tuple[str, ...]] = ("sam3_video",)
    reader: ClassVar[str] = "Sam3VideoModel"
    licence: ClassVar[Licence] = Licence(
        "Apache-2.0", "SAM License; gated: ask for access on the model's page"
    )
    packages: ClassVar[Packages] = Packages("meta", ("torch", "torchvision", "transformers"))

    def _instances(self, image: Image, label: str, least: float) -> Iterator[_Instance]:
        """Everything with the name that scores `least` or more, the surest first."""
        import torch

        words = self._processor.tokenizer(
            label,
            padding="max_length",
            max_length=self._model.config.detector_config.text_config.max_position_embeddings,
            truncation=True,
            return_tensors="pt",
        ).to(self._model.device)
        with torch.inference_mode():
            outputs = self._model.detector_model(vision_embeds=self._vision(image), **words)
            # How likely the thing is there at all, and how likely this is one of it.
            presence, here = outputs.presence_logits[0].float(), outputs.pred_logits[0].float()
            scores, order = (presence.sigmoid() * here.sigmoid()).sort(descending=True)
        for score, index in zip(scores.tolist(), order.tolist(), strict=True):
            if score >= least:
                left, top, right, bottom = outputs.pred_boxes[0, index].tolist()
                box = Corners.from_pixels(left, top, right, bottom, 1, 1)
                yield _Instance(score, box, outputs.pred_masks[0, index])

    def _vision(self, image: Image) -> Any:
        """What the encoder makes of an image: once for all that is asked about it."""
        import torch

        # Every call of a skill has an image of its own, around the same pixels.
        if self._seen is None or self._seen[0] is not image.im:
            inputs = self._processor.image_processor(image, return_tensors="pt")
            pixels = inputs["pixel_values"].to(self._model.device, self._model.dtype)
            with torch.inference_mode():
                self._seen = (image.im, self._model.detector_model.get_vision_features(pixels))
        return self._seen[1]


@dataclass(config=ConfigDict(extra="forbid"))
class Sam3Detector(_Sam3):
    """SAM 3 as a `Detector`: each label is asked for by itself, as a short noun phrase."""

    @property
    def vocabulary(self) -> Sequence[str]:
        """Empty: it takes any label."""
        return ()

    def detect(self, image: Image, labels: Sequence[str], threshold: float | None) -> Findings:
        """Things with a score of `threshold` or more, the surest first within a label."""
        least = self.threshold if threshold is None else threshold
        found = (
            Detection(label=label, box=thing.box, score=round(thing.score, 3))
            for label in reporting_each(labels, "labels")
            for thing in self._instances(image, label, least)
        )
        return Findings(objects=tuple(thing for thing in found if thing.box.area > 0))


@dataclass(config=ConfigDict(extra="forbid"))
class Sam3Outliner(_Sam3, Sam2Outliner):
    """SAM 3 as an `Outliner` of what words name, of places, and of everything."""

    def outline_named(self, image: Image, labels: Sequence[str]) -> list[tuple[str, Mask]]:
        """Everything with one of the names, by label, then the surest first."""
        # One by one: all masks of a large image at once might not fit into memory.
        outlined = (
            (label, _shown(thing.logits, image))
            for label in reporting_each(labels, "labels")
            for thing in self._instances(image, label, self.threshold)
        )
        return [(label, mask) for label, mask in outlined if mask.area > 0]

    def _read(self, image: Image) -> None:
        import torch

        tracker, fed = self._model.tracker_model, self._processor.image_processor.size
        with torch.inference_mode():
            levels, _ = self._model.get_vision_features_for_tracker(self._vision(image))
            # Said of an image that is no part of a video. The library's own `Sam3TrackerModel`
            # says it of a level that is not used.
            levels[-1] = levels[-1] + tracker.no_memory_embedding
            maps = [
                level.permute(1, 2, 0).unflatten(-1, size)
                for level, size in zip(levels, tracker.backbone_feature_sizes, strict=True)
            ]
        self._encoded = (maps, [[image.height, image.width]], [[fed.height, fed.width]])

    def _predict(self, **prompts: Any) -> Any:
        import torch

        tracker, (*fine, coarse) = self._model.tracker_model, self._encoded[0]
        points = prompts.get("input_points")
        sparse, dense = tracker.prompt_encoder(
            input_points=points,
            input_labels=None if points is None else torch.ones_like(points[..., 0]).int(),
            input_boxes=prompts.get("input_boxes"),
            input_masks=None,
        )
        masks, ratings, *_ = tracker.mask_decoder(
            image_embeddings=coarse,
            high_resolution_features=fine,
            image_positional_embeddings=tracker.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=prompts["multimask_output"],
        )
        return SimpleNamespace(pred_masks=masks, iou_scores=ratings)

    def _enlarged(
        self,
        masks: torch.Tensor,
        original: list[list[int]],
        fed: list[list[int]],
        *,
        binarize: bool = True,
    ) -> torch.Tensor:
        whole: list[torch.Tensor] = self._processor.image_processor.post_process_masks(
            [masks], original, binarize=binarize
        )
        return whole[0]


def _shown(logits: torch.Tensor, image: Image) -> Mask:
    """A mask in the size of the image, of its logits (height, width)."""
    from torch.nn.functional import interpolate

    likely = logits.float().sigmoid()[None, None]
    whole = interpolate(likely, (image.height, image.width), mode="bilinear", align_corners=False)
    return Mask.from_array((whole[0, 0] > 0.5).cpu().numpy())
