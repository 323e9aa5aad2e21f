"""Describing images: BLIP (Li et al. 2022) and BLIP-2 (Li et al. 2023), through transformers."""

from __future__ import annotations

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
    """BLIP: short captions from a beam search over `beams` of up to `longest` words."""

    model: str = "Salesforce/blip-image-captioning-base"
    beams: int = Field(default=3, ge=1, le=20)
    longest: int = Field(default=40, ge=5, le=200)

    kinds: ClassVar[tuple[str, ...]] = ("blip",)
    licence: ClassVar[Licence] = Licence("Apache-2.0", "BSD-3-Clause")

    def caption(self, image: Image) -> str:
        """What is in the image, as a sentence."""
        import torch

        inputs = self._processor(images=image, return_tensors="pt").to(self._model.device)
        pixels = inputs["pixel_values"].to(self._model.dtype)
        with torch.inference_mode():
            (tokens,) = self._model.generate(
                pixel_values=pixels,
                num_beams=self.beams,
                max_new_tokens=self.longest,
                do_sample=False,
            )
        return sentence(self._processor.decode(tokens, skip_special_tokens=True))


@dataclass(config=ConfigDict(extra="forbid"))
class Blip2Captioner(BlipCaptioner):
    """BLIP-2: a language model that reads the image through a few queries."""

    model: str = "Salesforce/blip2-opt-2.7b"
    kinds: ClassVar[tuple[str, ...]] = ("blip-2",)
    licence: ClassVar[Licence] = Licence("Apache-2.0", "MIT")
