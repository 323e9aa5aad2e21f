"""Pictures from words with diffusion models: Stable Diffusion and its kin, through diffusers."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..errors import BadConfiguration
from ..extras import needing
from ..geometry import Mask
from ..progress import report_progress
from ..weights import Fetchable, Weights
from . import Licence, Packages
from .pretrained import cannot_load, numbers_called

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

__all__ = ["Diffusion", "DiffusionEditor", "DiffusionInpainter", "DiffusionPainter"]

_GRAIN = 16
"""Sides of an image that a model works on are multiples of this many pixels."""


@dataclass(config=ConfigDict(extra="forbid"))
class Diffusion:
    """What the pipelines share: loading, steps, guidance, and a seed of their own.

    Images are worked on with a longer side of `side` pixels, or less when they are smaller.
    With `seed=None` every call makes another picture. `safety` keeps the model's own filter, where
    it has one; a filtered picture is black.
    """

    model: str = ""
    dtype: str = "float32"
    steps: int = Field(default=30, ge=1, le=500)
    guidance: float = Field(default=7.5, ge=0, le=50)
    side: int = Field(default=512, ge=64, le=4096, multiple_of=_GRAIN)
    seed: int | None = None
    safety: bool = True
    _pipeline: Any = field(default=None, init=False, repr=False)

    opens: ClassVar[str]
    """The class of diffusers that opens the model."""
    licence: ClassVar[Licence] = Licence("Apache-2.0", "CreativeML OpenRAIL-M")
    packages: ClassVar[Packages] = Packages("generation", ("torch", "transformers", "diffusers"))

    @property
    def weights(self) -> Fetchable:
        """The repository or folder of the pipeline."""
        return Weights(self.model)

    def load(self, device: str) -> None:
        """Load the pipeline. Raises `BadConfiguration` when it is not there, or of another kind."""
        with needing(self.packages.extra, f"the model {self.model!r}"):
            import diffusers
        diffusers.utils.logging.disable_progress_bar()
        options = {} if self.safety else {"safety_checker": None, "requires_safety_checker": False}
        try:
            pipeline = getattr(diffusers, self.opens).from_pretrained(
                self.model, dtype=numbers_called(self.dtype), **options, **self._extra_parts()
            )
        except (OSError, ValueError, ImportError) as error:
            raise cannot_load(self.model, error) from error
        pipeline.set_progress_bar_config(disable=True)
        self._pipeline = pipeline.to(device)

    def _extra_parts(self) -> dict[str, Any]:
        """Parts of the pipeline that lie elsewhere than the model, by name."""
        return {}

    def _check_kind(self, role: str, kinds: Sequence[str]) -> None:
        """Raise `BadConfiguration` when the pipeline is none of those that can play a role."""
        if (kind := type(self._pipeline).__name__) not in kinds:
            raise BadConfiguration(
                f"{self.model!r} is a {kind}; {role} is one of {', '.join(kinds)}"
            )

    def _run(self, **inputs: Any) -> Image:
        made = self._pipeline(
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            generator=self._random(),
            **self._reporting(),
            **inputs,
        )
        image: Image = made.images[0]
        return image

    def _reporting(self) -> dict[str, Any]:
        """The argument by which a pipeline tells its steps, where it has one."""
        name = "callback_on_step_end"
        has_it = name in inspect.signature(self._pipeline.__call__).parameters
        return {name: self._report_step} if has_it else {}

    def _report_step(
        self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        # Some schedulers and inpainters take more or fewer steps than they were asked for.
        report_progress(step + 1, getattr(pipeline, "num_timesteps", self.steps))
        return tensors

    def _random(self) -> torch.Generator | None:
        import torch

        # On the CPU, so that a seed gives the same picture on every device.
        return None if self.seed is None else torch.Generator("cpu").manual_seed(self.seed)

    def _working_size(self, image: Image) -> tuple[int, int]:
        scale = min(1.0, self.side / max(image.size))
        width, height = (max(_GRAIN, round(s * scale / _GRAIN) * _GRAIN) for s in image.size)
        return width, height


@dataclass(config=ConfigDict(extra="forbid"))
class DiffusionPainter(Diffusion):
    """New pictures from any text-to-image pipeline (Stable Diffusion; Rombach et al. 2022)."""

    model: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    opens: ClassVar[str] = "AutoPipelineForText2Image"

    def paint(self, prompt: str) -> Image:
        """A square picture, `side` pixels wide."""
        return self._run(prompt=prompt, width=self.side, height=self.side)


@dataclass(config=ConfigDict(extra="forbid"))
class DiffusionEditor(Diffusion):
    """Images changed by instruction: InstructPix2Pix (Brooks et al. 2023), FLUX Kontext, Qwen.

    `faithfulness` to the image is an option of InstructPix2Pix alone.
    """

    model: str = "timbrooks/instruct-pix2pix"
    faithfulness: float = Field(default=1.5, ge=1, le=10)
    opens: ClassVar[str] = "DiffusionPipeline"

    _editors: ClassVar[tuple[str, ...]] = (
        "StableDiffusionInstructPix2PixPipeline",
        "StableDiffusionXLInstructPix2PixPipeline",
        "FluxKontextPipeline",
        "QwenImageEditPipeline",
    )

    def load(self, device: str) -> None:
        """Load the pipeline. Raises `BadConfiguration` when it takes no instructions."""
        super().load(device)
        self._check_kind("an editor", self._editors)

    def edit(self, image: Image, instruction: str) -> Image:
        """The changed image, in the size of `image`."""
        size = self._working_size(image)
        options: dict[str, Any] = {"image": image.resize(size)}
        if "Pix2Pix" in type(self._pipeline).__name__:
            options["image_guidance_scale"] = self.faithfulness
        else:
            options |= {"width": size[0], "height": size[1]}
        return self._run(prompt=instruction, **options).resize(image.size)


@dataclass(config=ConfigDict(extra="forbid"))
class DiffusionInpainter(Diffusion):
    """Areas repainted by any inpainting pipeline of diffusers; the rest is kept to the pixel."""

    model: str = "stable-diffusion-v1-5/stable-diffusion-inpainting"
    opens: ClassVar[str] = "AutoPipelineForInpainting"

    def inpaint(self, image: Image, mask: Mask, prompt: str) -> Image:
        """The image with `prompt` inside the mask."""
        from PIL import Image as Pillow

        area = Pillow.fromarray(mask.array())
        width, height = size = self._working_size(image)
        painted = self._run(
            prompt=prompt,
            image=image.resize(size),
            mask_image=area.convert("L").resize(size, Pillow.Resampling.NEAREST),
            width=width,
            height=height,
        )
        return Pillow.composite(painted.resize(image.size), image, area)
