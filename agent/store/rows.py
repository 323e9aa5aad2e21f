"""Between rows and values: how a turn, a conversation and a file stand in the database."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from ...model.conversation import AssistantMessage, Message, SkillMessage, UserMessage
from ...skills.calls import SkillProblem, SkillSpec
from ...skills.geometry import Mask
from ...skills.images import ImageRef
from .tables import ConversationRow, FileRow, TurnRow
from .values import Grown, KeptConversation, KeptFile, KeptTurn, TurnState, Vote

__all__ = [
    "catalogue",
    "clean",
    "first_request",
    "kept_conversation",
    "kept_file",
    "kept_turn",
    "new_id",
    "sought",
    "told",
]

_MESSAGES: TypeAdapter[tuple[Message, ...]] = TypeAdapter(tuple[Message, ...])
_IMAGES: TypeAdapter[dict[str, ImageRef]] = TypeAdapter(dict[str, ImageRef])
_MASKS: TypeAdapter[dict[str, Mask]] = TypeAdapter(dict[str, Mask])
_TITLE = 80


def new_id(kind: str, join: str = "_") -> str:
    """An identifier that nobody can guess."""
    return f"{kind}{join}{uuid.uuid4().hex}"


def clean(text: str) -> str:
    """`text` as every database takes it: without NUL and without halves of characters."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def sought(texts: Iterable[str]) -> str:
    """Texts as search reads them; folded here, since SQLite folds only ASCII."""
    return clean("\n".join(texts)).casefold()


def told(grown: Grown) -> dict[str, Any]:
    """The columns of a turn that hold what was said and made in it."""
    return {
        "messages": _MESSAGES.dump_python(grown.messages, mode="json"),
        "images": _IMAGES.dump_python(dict(grown.images), mode="json"),
        "masks": _MASKS.dump_python(dict(grown.masks), mode="json"),
        "sought": sought(_words(message) for message in grown.messages),
    }


def first_request(messages: Sequence[Message]) -> str:
    """The words of the first request, shortened to a title."""
    asked = (message.text for message in messages if isinstance(message, UserMessage))
    words = " ".join(clean(next(asked, "")).split())
    return words if len(words) <= _TITLE else f"{words[: _TITLE - 1].rstrip()}…"


def catalogue(skills: Sequence[SkillSpec]) -> tuple[str, list[dict[str, Any]]]:
    """The hash of the specs as they are told, in their order, and the specs as JSON."""
    specs = [spec.model_dump(mode="json") for spec in skills]
    return hashlib.sha256(json.dumps(specs).encode()).hexdigest(), specs


def kept_conversation(row: ConversationRow, skills: tuple[SkillSpec, ...]) -> KeptConversation:
    """The conversation of a row."""
    return KeptConversation(
        id=row.id,
        owner=row.owner,
        title=row.title,
        lmm=row.lmm,
        skills=skills,
        head=row.head,
        created=row.created,
        updated=row.updated,
    )


def kept_turn(row: TurnRow, now: datetime) -> KeptTurn:
    """The turn of a row; one that runs is interrupted when its lease has run out by `now`."""
    state = TurnState(row.state)
    if state is TurnState.RUNNING and (row.lease_until is None or row.lease_until < now):
        state = TurnState.INTERRUPTED
    return KeptTurn(
        id=row.id,
        conversation=row.conversation,
        parent=row.parent,
        state=state,
        messages=_MESSAGES.validate_python(row.messages),
        images=_IMAGES.validate_python(row.images),
        masks=_MASKS.validate_python(row.masks),
        seconds=row.seconds,
        steps=tuple(row.steps),
        error=SkillProblem.model_validate(row.error) if row.error else None,
        vote=Vote(row.vote) if row.vote else None,
        comment=row.comment,
        created=row.created,
        finished=row.finished,
    )


def kept_file(row: FileRow) -> KeptFile:
    """The file of a row."""
    return KeptFile(
        id=row.id,
        filename=row.filename,
        purpose=row.purpose,
        bytes=row.size,
        created=row.created,
        sha256=row.artifact,
        media_type=row.media_type,
    )


def _words(message: Message) -> str:
    if isinstance(message, SkillMessage):
        return message.result.text
    if isinstance(message, AssistantMessage):
        return f"{message.thoughts}\n{message.text}"
    return message.text
