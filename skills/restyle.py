"""The skill that makes a new picture in the layout of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from .backed import BackedSkill
from .backends import LabelledRegion, RegionLabeller, Restyler
from .errors import SkillFailed
from .paint import PaintedImage, Words
from .readiness import readiness
from .settings import create_backend
from .skill import Image, ImageArgument

__all__ = ["Restyle"]


class Restyle(BackedSkill[Restyler]):
    """Makes pictures in the layout of others, whose regions the backend of `label_regions` finds.

    That one is loaded when it is first needed.
    """

    name = "restyle"
    description = (
        "Paint a new scene, which prompt describes in full, over the layout of an image: nothing "
        "of it stays but its edges or regions. Not for changes to the image itself."
    )
    may_use = ("label_regions",)

    def setup(self, device: str) -> None:
        """Load the backend. Raises `BadConfiguration` when that cannot be done."""
        super().setup(device)
        self._device = device
        self._labeller: RegionLabeller | None = None

    def teardown(self) -> None:
        """Let go of both backends."""
        super().teardown()
        self._labeller = None

    def run(
        self, image: ImageArgument, prompt: Words, control: Literal["edges", "regions"] = "edges"
    ) -> PaintedImage:
        """Make a picture of the size of `image`; `control` is what stays in its place."""
        if control == "edges":
            made = self.backend.keep_edges(image, prompt)
        else:
            made = self.backend.keep_regions(image, self._regions(image), prompt)
        return PaintedImage(done=f"Made a new picture with the {control} of the image.", image=made)

    def _regions(self, image: Image) -> Sequence[LabelledRegion]:
        if self._labeller is None:
            if lacks := readiness("label_regions").lacks:
                raise SkillFailed(f"'regions' needs the skill label_regions, and {lacks}")
            labeller: RegionLabeller = create_backend("label_regions")
            labeller.load(self._device)
            self._labeller = labeller
        return self._labeller.label_regions(image)
