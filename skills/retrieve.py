"""The skill that searches a collection for pictures."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from . import wording
from .backed import BackedSkill
from .backends import Retrieved, Retriever
from .errors import BadInput, BadSkillUse
from .skill import Image, ImageArgument, SkillOutput

__all__ = ["FoundPictures", "Retrieve"]

log = logging.getLogger(__name__)

_USUAL = 5
"""Pictures that are brought when nobody says how many."""


class FoundPictures(SkillOutput):
    """Pictures of the collection, the nearest first."""

    found: tuple[Retrieved, ...]
    pictures: tuple[Image, ...] = Field(exclude=True, repr=False)

    def summary(self) -> str:
        """How many there are."""
        return wording.retrieved_text(len(self.found))

    def text(self) -> str:
        """How many there are, and what is written beside them in the collection."""
        captions = [found.caption for found in self.found if found.caption]
        return "\n".join([self.summary(), *captions])

    def images(self) -> Iterator[tuple[str, Image]]:
        """The pictures."""
        for picture in self.pictures:
            yield "", picture


class Retrieve(BackedSkill[Retriever]):
    """Searches the collection that `llava-plus index` has read."""

    name = "retrieve"
    description = "Search a photo collection for similar pictures, by example image or by words."

    def run(
        self,
        image: ImageArgument | None = None,
        query: Annotated[str, Field(min_length=1, max_length=1000)] | None = None,
        k: Annotated[int, Field(ge=1, le=100)] | None = None,
    ) -> FoundPictures:
        """Look for up to `k` pictures like the image, like the words, or like both."""
        if image is None and query is None:
            raise BadSkillUse("retrieve: give an image, a query in words, or both")
        found, pictures = [], []
        for one in self.backend.search(image, query, k or _USUAL):
            try:
                picture = self.backend.open(one)
            except BadInput as error:  # it was moved or damaged since it was indexed
                log.warning("%s; index the collection again", error)
                continue
            found.append(one)
            if picture is not None:
                pictures.append(picture)
        return FoundPictures(found=tuple(found), pictures=tuple(pictures))
