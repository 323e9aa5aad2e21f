"""Describing images: BLIP (Li et al. 2022) and BLIP-2 (Li et al. 2023), through transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..wording import sentence
from . import Licence
from .pretrained import Pretrained

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Blip2Captioner", "BlipCaptioner"]


@dataclass(config=ConfigDict(extra="forbid"))
class BlipCaptioner(Pretrained):
    """BLIP: short captions from a beam search over `beams` of up to `longest` words.

    Up to `batch` images are described at once.
    """

    model: str = "Salesforce/blip-image-captioning-base"
    beams: int = Field(default=3, ge=1, le=20)
    longest: int = Field(default=40, ge=5, le=200)
    batch: int = Field(default=8, ge=1, le=256)

    kinds: ClassVar[tuple[str, ...]] = ("blip",)
    licence: ClassVar[Licence] = Licence("Apache-2.0", "BSD-3-Clause")

    def caption(self, image: Image) -> str:
        """What is in the image, as a sentence."""
        return self.captions([image])[0]

    def captions(self, images: Sequence[Image]) -> list[str]:
        """What is in each image; a longer batch takes hardly more time than a short one."""
        import torch

        inputs = self._processor(images=list(images), return_tensors="pt").to(self._model.device)
        pixels = inputs["pixel_values"].to(self._model.dtype)
        with torch.inference_mode():
            tokens = self._model.generate(
                pixel_values=pixels,
                num_beams=self.beams,
                max_new_tokens=self.longest,
                do_sample=False,
            )
        told = self._processor.batch_decode(tokens, skip_special_tokens=True)
        return [sentence(words) for words in told]


@dataclass(config=ConfigDict(extra="forbid"))
class Blip2Captioner(BlipCaptioner):
    """BLIP-2: a language model that reads the image through a few queries."""

    model: str = "Salesforce/blip2-opt-2.7b"
    kinds: ClassVar[tuple[str, ...]] = ("blip-2",)
    licence: ClassVar[Licence] = Licence("Apache-2.0", "MIT")
