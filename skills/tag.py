"""The skill that lists keywords for an image."""

from __future__ import annotations

from . import wording
from .backends import Tag as Keyword
from .backends import Tagger
from .settings import create_backend
from .skill import ImageArgument, Skill, SkillOutput

__all__ = ["Keywords", "Tag"]


class Keywords(SkillOutput):
    """Keywords for an image, the surest first."""

    tags: tuple[Keyword, ...]

    def summary(self) -> str:
        """How many there are, and all of them."""
        return wording.tags_text([tag.name for tag in self.tags])


class Tag(Skill):
    """Finds keywords with the backend that the settings name."""

    name = "tag"
    description = "List keywords for an image: its objects, scene, style (for sorting and search)."

    def setup(self, device: str) -> None:
        """Load the backend."""
        self._tagger: Tagger = create_backend(self.name)
        self._tagger.load(device)

    def run(self, image: ImageArgument) -> Keywords:
        """Find the keywords that fit."""
        return Keywords(tags=tuple(self._tagger.tags(image)))
