"""The files that a turn leaves: images that skills made, and images that show what was done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..model.conversation import AssistantMessage, Conversation, SkillMessage
from ..skills.calls import SkillUse
from ..skills.images import ImageStore
from .drawing import annotate
from .sheets import before_after, contact_sheet

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Outputs", "Written"]


@dataclass(frozen=True)
class Written:
    """A file that was written: the image of a handle, or what a call found or did."""

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
    sheets: dict[str, str] = field(default_factory=dict)
    """Ids of calls to the files that show the images they made, together or beside the old one."""

    def write_step(self, conversation: Conversation, store: ImageStore) -> list[Written]:
        """Write what the calls of the last reply made and found. Raises `OSError`."""
        written = []
        for use, message in _last_step(conversation):
            for handle in message.images:
                path = self._free_path(f"{self.prefix}-{handle}.png")
                path.write_bytes(store.data(conversation.images[handle]))
                self.files[handle] = str(path)
                written.append(Written(path, handle))
            asked = _images(use.arguments.values(), conversation, store)
            made = _images(message.images, conversation, store)
            if asked and (drawn := annotate(asked[0][1], message.result)):
                path = self._save(drawn, f"{len(self.annotated) + 1}-{use.name}")
                self.annotated[use.id] = str(path)
                written.append(Written(path, use.name))
            pair = f"{use.name}-before-after"
            for sheet, name, shows in (
                (contact_sheet(made, message.result), use.name, "all images"),
                (before_after(asked, made, message.result), pair, "before and after"),
            ):
                if sheet:
                    path = self._save(sheet, name)
                    self.sheets[use.id] = str(path)
                    written.append(Written(path, f"{use.name}, {shows}"))
        return written

    def _save(self, image: Image, name: str) -> Path:
        path = self._free_path(f"{self.prefix}-{name}.png")
        image.save(path, compress_level=3)
        return path

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


def _images(
    values: Iterable[object], conversation: Conversation, store: ImageStore
) -> list[tuple[str, Image]]:
    """The images whose handles are among the values, in that order."""
    handles = [value for value in values if isinstance(value, str) and value in conversation.images]
    return [(handle, store.image(conversation.images[handle])) for handle in handles]
