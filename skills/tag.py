"""The skill that lists keywords for an image."""

from __future__ import annotations

from . import wording
from .backed import BackedSkill
from .backends import Tag as Keyword
from .backends import Tagger
from .skill import ImageArgument, SkillOutput

__all__ = ["Keywords", "Tag"]


class Keywords(SkillOutput):
    """Keywords for an image, the surest first."""

    tags: tuple[Keyword, ...]

    def summary(self) -> str:
        """How many there are, and all of them."""
        return wording.tags_text([tag.name for tag in self.tags])


class Tag(BackedSkill[Tagger]):
    """Finds keywords with the backend that the settings name."""

    name = "tag"
    description = "List keywords for an image: its objects, scene, style (for sorting and search)."

    def run(self, image: ImageArgument) -> Keywords:
        """Find the keywords that fit."""
        return Keywords(tags=tuple(self.backend.tags(image)))
