"""The skill that describes the parts of an image one by one."""

from __future__ import annotations

from . import wording
from .backed import BackedSkill
from .backends import RegionDescriber, RegionDescription
from .skill import ImageArgument, SkillOutput

__all__ = ["DescribeRegions", "DescribedRegions"]


class DescribedRegions(SkillOutput):
    """Parts of an image, each with its box and what is there."""

    regions: tuple[RegionDescription, ...]

    def summary(self) -> str:
        """How many there are."""
        return wording.regions_summary(len(self.regions))

    def text(self) -> str:
        """How many there are, and each of them in words."""
        return wording.regions_text([(region.box, region.words) for region in self.regions])


class DescribeRegions(BackedSkill[RegionDescriber]):
    """Describes the parts of an image with the backend that the settings name."""

    name = "describe_regions"
    description = "Describe each part of an image separately: one sentence a region, with its box."

    def run(self, image: ImageArgument) -> DescribedRegions:
        """Describe the parts that stand out."""
        return DescribedRegions(regions=tuple(self.backend.describe(image)))
