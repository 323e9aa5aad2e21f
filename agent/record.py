"""Conversations as files: the training record of one, and its images beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..model.conversation import Conversation, UserMessage
from ..skills.images import ImageRef, ImageStore

__all__ = ["append_record", "training_record"]

_SUFFIXES = {"image/jpeg": ".jpg", "image/tiff": ".tif"}


def append_record(conversation: Conversation, store: ImageStore, path: Path) -> dict[str, Any]:
    """Add `conversation` to the JSONL file at `path` as one line, which is also given back.

    Its images go into the folder `images` beside the file, named by the hash of their content.
    Raises `OSError`.
    """
    folder = path.parent / "images"
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, str] = {}
    for handle, ref in conversation.images.items():
        file = folder / image_name(ref)
        if not file.exists():
            file.write_bytes(store.data(ref))
        files[handle] = f"images/{file.name}"
    record = training_record(conversation, files)
    with path.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(record, ensure_ascii=False) + "\n")
    return record


def training_record(conversation: Conversation, files: dict[str, str]) -> dict[str, Any]:
    """The record of a conversation whose images lie in `files`, by handle.

    `images` are those that the LMM was shown, in the order of the image parts in `messages`, as
    TRL wants them. `made` and `masks` hold what the skills made, so that nothing is lost.
    """
    shown = list(_shown(conversation))
    return {
        "messages": conversation.chat_messages(),
        "tools": conversation.tools(),
        "images": [files[handle] for handle in shown],
        "made": {handle: file for handle, file in files.items() if handle not in shown},
        "masks": {handle: mask.model_dump() for handle, mask in conversation.masks.items()},
    }


def image_name(ref: ImageRef) -> str:
    """A file name for an image that says what is in it: the hash, and the kind as suffix."""
    kind = ref.media_type.removeprefix("image/")
    return ref.sha256 + _SUFFIXES.get(ref.media_type, f".{kind}")


def _shown(conversation: Conversation) -> Iterator[str]:
    for message in conversation.messages:
        if isinstance(message, UserMessage):
            yield from (handle for handle in message.images if handle in conversation.images)
