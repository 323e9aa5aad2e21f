"""Records that stand in a file more than once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from ...model.conversation import AssistantMessage, UserMessage
from ...model.record import Record
from .findings import Case, Check, Problem
from .images import Pictures

__all__ = ["NoDuplicates", "conversation_key", "normal", "text_key"]


class NoDuplicates:
    """No record has all the words, the images and the skills on offer of an earlier one.

    Words are compared without case and white space. Takes about 130 bytes of memory a record.
    """

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures
        self._first: dict[bytes, int] = {}

    def __call__(self, case: Case) -> Iterator[Problem]:
        images = (self._pictures.content(file) for file in case.record.images.values())
        skills = sorted(spec.name for spec in case.record.skills)
        key = text_key(*images, *skills, conversation_key(case.record).hex())
        first = self._first.setdefault(key, case.place)
        if first != case.place:
            yield Problem(Check.DUPLICATE, f"the same as record {first}")


def conversation_key(record: Record) -> bytes:
    """The hash of everything that is said in a record."""
    parts: list[str] = []
    for message in record.messages:
        words = message.words if isinstance(message, UserMessage) else message.text
        parts += (message.role, normal(words))
        if isinstance(message, AssistantMessage):
            calls = [[use.name, use.arguments] for use in message.skill_uses]
            parts += (normal(message.thoughts), normal(json.dumps(calls, sort_keys=True)))
    return text_key(*parts)


def text_key(*parts: str) -> bytes:
    """A hash of texts in their order, 16 bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8))
        digest.update(data)
    return digest.digest()


def normal(text: str) -> str:
    """A text without case, and with single spaces."""
    return " ".join(text.casefold().split())
