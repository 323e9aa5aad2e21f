"""The skill that describes the parts of an image one by one."""

from __future__ import annotations

from . import wording
from .backends import RegionDescriber, RegionDescription
from .settings import create_backend
from .skill import ImageArgument, Skill, SkillOutput

__all__ = ["DescribeRegions", "DescribedRegions"]


class DescribedRegions(SkillOutput):
    """Parts of an image, each with its box and what is there."""

    regions: tuple[RegionDescription, ...]

    def summary(self) -> str:
        """How many there are."""
        return self.text().partition("\n")[0].replace(":", ".")

    def text(self) -> str:
        """How many there are, and each of them in words."""
        return wording.regions_text([(region.box, region.words) for region in self.regions])


class DescribeRegions(Skill):
    """Describes the parts of an image with the backend that the settings name."""

    name = "describe_regions"
    description = "Describe each part of an image separately: one sentence a region, with its box."

    def setup(self, device: str) -> None:
        """Load the backend."""
        self._describer: RegionDescriber = create_backend(self.name)
        self._describer.load(device)

    def run(self, image: ImageArgument) -> DescribedRegions:
        """Describe the parts that stand out."""
        return DescribedRegions(regions=tuple(self._describer.describe(image)))
