"""New pictures in the layout of an image: ControlNet (Zhang et al. 2023), through diffusers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..errors import BadConfiguration, SkillFailed
from ..extras import needing
from ..weights import Fetchable, Weights, WeightSet
from . import LabelledRegion, Packages
from .ade20k import region_map
from .diffusion import Diffusion
from .pretrained import cannot_load, numbers_called

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ControlNetRestyler"]

Setting = Literal["edges_model", "regions_model"]

_SHARED = ("block_out_channels", "cross_attention_dim")
"""What a ControlNet has in common with the U-Net that it was trained for."""


@dataclass(config=ConfigDict(extra="forbid"))
class ControlNetRestyler(Diffusion):
    """A `Restyler` on Stable Diffusion, SDXL included.

    `edges_model` is a ControlNet for Canny edges that was trained for models like `model`,
    `regions_model` one for maps in the colours of ADE20K, or nothing; it is loaded when it is
    first needed. `conditioning` is how much the layout counts. A gradient of `strong` or more makes
    an edge, and so does one of `faint` or more beside it (Canny 1986).
    """

    model: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    edges_model: str = "lllyasviel/control_v11p_sd15_canny"
    regions_model: str = "lllyasviel/control_v11p_sd15_seg"
    conditioning: float = Field(default=1.0, ge=0, le=2)
    faint: float = Field(default=100, ge=0)
    strong: float = Field(default=200, ge=0)
    _controls: dict[Setting, Any] = field(default_factory=dict, init=False, repr=False)

    opens: ClassVar[str] = "AutoPipelineForText2Image"
    packages: ClassVar[Packages] = Packages(
        "generation", ("torch", "transformers", "diffusers", "cv2")
    )

    _restylers: ClassVar[tuple[str, ...]] = (
        "StableDiffusionControlNetPipeline",
        "StableDiffusionXLControlNetPipeline",
    )

    @property
    def weights(self) -> Fetchable:
        """The repositories or folders of the pipeline and of its ControlNets."""
        names = (self.model, self.edges_model, self.regions_model)
        return WeightSet(tuple(Weights(name) for name in names if name))

    def load(self, device: str) -> None:
        """Load the pipeline with the ControlNet for edges.

        Raises `BadConfiguration` when they are not there, or not made for each other.
        """
        with needing(self.packages.extra, "the skill 'restyle'"):
            import cv2  # noqa: F401 - so that a missing package shows now
        super().load(device)
        self._check_kind("a pipeline with a ControlNet", self._restylers)
        self._check_match("edges_model")

    def _extra_parts(self) -> dict[str, Any]:
        return {"controlnet": self._control("edges_model")}

    def _control(self, setting: Setting) -> Any:
        """The ControlNet that a setting names."""
        from diffusers import ControlNetModel

        name, wanted = getattr(self, setting), ControlNetModel.__name__
        if setting not in self._controls:
            try:
                kind = ControlNetModel.load_config(name).get("_class_name")
                if kind != wanted:
                    raise BadConfiguration(f"{name!r} is a {kind}, not a {wanted}")
                numbers = numbers_called(self.dtype)
                self._controls[setting] = ControlNetModel.from_pretrained(name, dtype=numbers)
            except (OSError, ValueError, ImportError) as error:
                raise cannot_load(name, error, setting) from error
        return self._controls[setting]

    def _check_match(self, setting: Setting) -> None:
        """Raise `BadConfiguration` when a ControlNet was trained for another kind of model."""
        steered, control = self._pipeline.unet.config, self._controls[setting].config
        for key in _SHARED:
            if (has := control[key]) != (wanted := steered[key]):
                raise BadConfiguration(
                    f"the ControlNet {getattr(self, setting)!r} is for another kind of model than "
                    f"{self.model!r}: its {key} is {has}, that of the model {wanted}"
                )

    def keep_edges(self, image: Image, prompt: str) -> Image:
        """A picture with the edges of `image`. Raises `SkillFailed` when there are none."""
        layout = self._edges(image.resize(self._working_size(image)))
        return self._follow("edges_model", layout, prompt).resize(image.size)

    def keep_regions(self, image: Image, regions: Sequence[LabelledRegion], prompt: str) -> Image:
        """A picture with the regions in their places.

        Left open are regions whose label ADE20K does not have. Raises `SkillFailed` when that is
        true of all of them.
        """
        if not self.regions_model:
            raise SkillFailed("this backend keeps edges only: its setting `regions_model` is empty")
        layout = region_map(regions, self._working_size(image))
        return self._follow("regions_model", layout, prompt).resize(image.size)

    def _follow(self, setting: Setting, layout: Image, prompt: str) -> Image:
        control = self._control(setting).to(self._pipeline.device)
        self._check_match(setting)
        self._pipeline.register_modules(controlnet=control)
        return self._run(
            prompt=prompt,
            image=layout,
            width=layout.width,
            height=layout.height,
            controlnet_conditioning_scale=self.conditioning,
        )

    def _edges(self, image: Image) -> Image:
        """Edges, white on black."""
        import cv2
        import numpy as np
        from PIL import Image as Pillow

        found = cv2.Canny(np.asarray(image), self.faint, self.strong)
        if not found.any():
            raise SkillFailed("no edge stands out in the image: there is no layout to keep")
        return Pillow.fromarray(found).convert("RGB")
