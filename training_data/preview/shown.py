"""A record with its images, opened and drawn on, ready to be shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...agent.drawing import annotate
from ...model.conversation import AssistantMessage, Message, SkillMessage
from ...model.record import Record
from ...skills.calls import Artifact
from ...skills.demonstration import texts_in
from ...skills.errors import BadInput
from ...skills.images import read_file, read_image, shrunk
from ..records.imported import Refusal
from ..records.transfer import read_each
from ..validation.whole_text import is_text

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Picture", "Shown", "chosen", "open_record"]

_SIDE = 1024
"""Pixels of the longer side that are kept of an image."""


@dataclass(frozen=True)
class Picture:
    """An image of a record: its name, its file, and what is in it or why that cannot be shown."""

    name: str
    file: str
    size: tuple[int, int] | None = None
    image: Image | None = None
    problem: str = ""


@dataclass(frozen=True)
class Shown:
    """A record, where it stands, and its pictures by handle."""

    place: str
    record: Record
    pictures: Mapping[str, Picture]

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Width and height of the images that could be opened."""
        return {name: one.size for name, one in self.pictures.items() if one.size}

    def beside(self, message: Message) -> list[Picture]:
        """The pictures that came with a request, or that a call made."""
        if isinstance(message, AssistantMessage):
            return []
        return [self.pictures[name] for name in message.images if name in self.pictures]

    def annotated(self, message: SkillMessage) -> Picture | None:
        """The image that a call was about with what it found, where that has a place in it."""
        asked = next((text for text in self._given(message) if text in self.pictures), "")
        picture = self.pictures.get(asked)
        if picture is None or picture.image is None:
            return None
        masks = [self.record.masks[name] for name in message.masks if name in self.record.masks]
        made = tuple(Artifact(mask=mask) for mask in masks)
        drawn = annotate(picture.image, message.result.model_copy(update={"artifacts": made}))
        if drawn is None:
            return None
        return Picture(f"{asked}, as {message.result.name} saw it", "", drawn.size, drawn)

    def _given(self, message: SkillMessage) -> Iterator[str]:
        """The texts among the arguments of the call that brought a result."""
        for reply in self.record.messages:
            if isinstance(reply, AssistantMessage):
                for use in reply.skill_uses:
                    if use.id == message.result.id:
                        yield from texts_in(use.arguments)


def open_record(record: Record, place: str, folder: Path) -> Shown:
    """Open the images of a record in `folder`; one that cannot be opened says why."""
    pictures = {name: _open(name, file, folder) for name, file in record.images.items()}
    return Shown(place, record, pictures)


def chosen(
    source: Path, *, id: str | None = None, first: int = 1, count: int = 1
) -> Iterator[Shown]:
    """The record with an id, or `count` records from the place `first` on.

    Raises `BadInput` when there is none, or one of them is no record.
    """
    found = 0
    for one in read_each(source):
        if one.id != id if id is not None else one.number < first:
            continue
        if isinstance(one.outcome, Refusal):
            raise BadInput(f"{one.place} is no record: {one.outcome}")
        if not is_text(one.outcome.record):
            raise BadInput(f"{one.place} holds half of a character, which cannot be shown")
        found += 1
        yield open_record(one.outcome.record, one.place, source.parent)
        if id is not None or found == count:
            return
    if not found:
        wanted = f"with the id {id!r}" if id is not None else f"at place {first}"
        raise BadInput(f"{source.name} has no record {wanted}")


def _open(name: str, file: str, folder: Path) -> Picture:
    try:
        ref, image = read_image(read_file(folder / file), name=file)
    except BadInput as error:
        return Picture(name, file, problem=str(error))
    except (OSError, ValueError) as error:  # a name too long, or with a null byte
        return Picture(name, file[:80], problem=f"it is no name of a file: {error}")
    return Picture(name, file, (ref.width, ref.height), shrunk(image, _SIDE))
