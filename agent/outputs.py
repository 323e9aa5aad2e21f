"""The files that a turn leaves: images that skills made, and images with the findings on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..model.conversation import AssistantMessage, Conversation, SkillMessage
from ..skills.calls import SkillUse
from ..skills.images import ImageStore
from .drawing import annotate

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Outputs", "Written"]


@dataclass(frozen=True)
class Written:
    """A file that was written: the image of a handle, or the finding of a call."""

    path: Path
    shows: str


@dataclass
class Outputs:
    """Writes into `folder`, which is made when first needed; no file is ever replaced."""

    folder: Path
    prefix: str
    files: dict[str, str] = field(default_factory=dict)
    """Handles of images to files, those of the person included."""
    annotated: dict[str, str] = field(default_factory=dict)
    """Ids of calls to the files that show what they found."""

    def write_step(self, conversation: Conversation, store: ImageStore) -> list[Written]:
        """Write what the calls of the last reply made and found. Raises `OSError`."""
        written = []
        for use, message in _last_step(conversation):
            for handle in message.images:
                path = self._free_path(f"{self.prefix}-{handle}.png")
                path.write_bytes(store.data(conversation.images[handle]))
                self.files[handle] = str(path)
                written.append(Written(path, handle))
            image = _image_of(use, conversation, store)
            if image and (drawn := annotate(image, message.result)):
                number = len(self.annotated) + 1
                path = self._free_path(f"{self.prefix}-{number}-{use.name}.png")
                drawn.save(path, compress_level=3)
                self.annotated[use.id] = str(path)
                written.append(Written(path, use.name))
        return written

    def _free_path(self, name: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        path, number = self.folder / name, 2
        while path.exists():
            path = self.folder / f"{Path(name).stem}-{number}.png"
            number += 1
        return path


def _last_step(conversation: Conversation) -> Iterator[tuple[SkillUse, SkillMessage]]:
    """The calls of the last reply, each with its result."""
    results: dict[str, SkillMessage] = {}
    for message in reversed(conversation.messages):
        if isinstance(message, AssistantMessage):
            uses = (use for use in message.skill_uses if use.id in results)
            yield from ((use, results[use.id]) for use in uses)
            return
        if isinstance(message, SkillMessage):
            results[message.result.id] = message


def _image_of(use: SkillUse, conversation: Conversation, store: ImageStore) -> Image | None:
    """The image that a call was about: the first that its arguments name."""
    for value in use.arguments.values():
        if isinstance(value, str) and value in conversation.images:
            return store.image(conversation.images[value])
    return None
