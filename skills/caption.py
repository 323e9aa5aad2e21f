"""The skill that describes an image in a sentence."""

from __future__ import annotations

from .backends import Captioner
from .settings import create_backend
from .skill import ImageArgument, Skill, SkillOutput

__all__ = ["Caption", "Description"]


class Description(SkillOutput):
    """What is in an image, in words."""

    caption: str

    def summary(self) -> str:
        """The words themselves."""
        return self.caption


class Caption(Skill):
    """Describes images with the backend that the settings name."""

    name = "caption"
    description = "Describe the whole image in a sentence: what is going on in it."

    def setup(self, device: str) -> None:
        """Load the backend."""
        self._captioner: Captioner = create_backend(self.name)
        self._captioner.load(device)

    def run(self, image: ImageArgument) -> Description:
        """Describe the image."""
        return Description(caption=self._captioner.caption(image))
