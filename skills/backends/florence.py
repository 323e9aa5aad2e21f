"""Describing images and their parts with Florence-2 (Xiao et al. 2023), through transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..geometry import Corners
from ..wording import sentence
from . import Licence, RegionDescription
from .pretrained import Pretrained

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Florence2Captioner", "Florence2RegionDescriber"]


@dataclass(config=ConfigDict(extra="forbid"))
class _Florence2(Pretrained):
    """What the tasks of Florence-2 share: one model that is asked with a word for each task."""

    model: str = "florence-community/Florence-2-base"
    beams: int = Field(default=3, ge=1, le=20)
    longest: int = Field(default=512, ge=5, le=1024)

    kinds: ClassVar[tuple[str, ...]] = ("florence2",)
    licence: ClassVar[Licence] = Licence("Apache-2.0", "MIT")

    def _ask(self, image: Image, task: str) -> Any:
        """What the model answers to a task, as its processor reads it."""
        import torch

        inputs = self._processor(images=image, text=task, return_tensors="pt")
        inputs = inputs.to(self._model.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self._model.dtype)
        with torch.inference_mode():
            tokens = self._model.generate(
                **inputs, num_beams=self.beams, max_new_tokens=self.longest, do_sample=False
            )
        (text,) = self._processor.batch_decode(tokens, skip_special_tokens=False)
        answer = self._processor.post_process_generation(
            text=text, task=task, image_size=image.size
        )
        return answer[task]


@dataclass(config=ConfigDict(extra="forbid"))
class Florence2Captioner(_Florence2):
    """Describes the whole image; `detail` says how long."""

    detail: int = Field(default=1, ge=0, le=2)

    _tasks: ClassVar[Sequence[str]] = ("<CAPTION>", "<DETAILED_CAPTION>", "<MORE_DETAILED_CAPTION>")

    def caption(self, image: Image) -> str:
        """What is in the image, as a sentence or several."""
        return sentence(self._ask(image, self._tasks[self.detail]))


@dataclass(config=ConfigDict(extra="forbid"))
class Florence2RegionDescriber(_Florence2):
    """Describes the parts of an image, each in a few words."""

    def describe(self, image: Image) -> Sequence[RegionDescription]:
        """The parts that the model names, the largest first."""
        answer = self._ask(image, "<DENSE_REGION_CAPTION>")
        found = {}
        for (left, top, right, bottom), words in zip(
            answer["bboxes"], answer["labels"], strict=True
        ):
            box = Corners.from_pixels(left, top, right, bottom, image.width, image.height)
            if box.area > 0 and words.strip():
                found[box, words] = RegionDescription(box=box, words=sentence(words))
        return sorted(found.values(), key=lambda region: -region.box.area)
