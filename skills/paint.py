"""The skills that make pictures from words: new ones, changed ones, repainted parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, StringConstraints

from .backed import BackedSkill
from .backends import ImageEditor, Inpainter, Painter
from .errors import BadSkillUse
from .skill import Image, ImageArgument, MaskArgument, SkillOutput

__all__ = ["Edit", "Generate", "Inpaint", "PaintedImage", "Words"]

Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]
"""What is to be seen or done, as a skill's argument."""


class PaintedImage(SkillOutput):
    """A picture that was made, and what was done."""

    done: str
    image: Image = Field(exclude=True)

    def summary(self) -> str:
        """What was done."""
        return self.done

    def images(self) -> Iterator[tuple[str, Image]]:
        """The picture."""
        yield "", self.image


class Generate(BackedSkill[Painter]):
    """Makes new pictures with the backend that the settings name."""

    name = "generate"
    description = "Make a new picture from words."

    def run(self, prompt: Words) -> PaintedImage:
        """Make a picture of what the prompt says."""
        return PaintedImage(done="Made the picture.", image=self.backend.paint(prompt))


class Edit(BackedSkill[ImageEditor]):
    """Changes images as told, with the backend that the settings name."""

    name = "edit"
    description = (
        "Change the content of an image as told in words: restyle it, swap the season or "
        "weather, turn one thing into another."
    )

    def run(self, instruction: Words, image: ImageArgument) -> PaintedImage:
        """Change the image; the result has its size."""
        return PaintedImage(done="Edited the image.", image=self.backend.edit(image, instruction))


class Inpaint(BackedSkill[Inpainter]):
    """Repaints masked areas with the backend that the settings name."""

    name = "inpaint"
    description = "Repaint only a masked area of an image so that it shows what the prompt says."

    def run(self, image: ImageArgument, mask: MaskArgument, prompt: Words) -> PaintedImage:
        """Repaint what is inside the mask; the rest of the image stays as it is, to the pixel."""
        mask.check_is_for(image)
        if mask.area == 0:
            raise BadSkillUse("the mask is empty: there is no area to repaint")
        painted = self.backend.inpaint(image, mask, prompt)
        return PaintedImage(done="Repainted the masked area.", image=painted)
