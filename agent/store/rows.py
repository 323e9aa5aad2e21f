"""Between rows and values: how a turn, a conversation and a file stand in the database."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
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
    "begun_turn",
    "clean",
    "conversation_columns",
    "first_request",
    "kept_conversation",
    "kept_file",
    "kept_turn",
    "new_conversation",
    "new_id",
    "sought",
    "told",
    "turn_columns",
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


def first_request(messages: Sequence[Message]) -> str:
    """The words of the first request, shortened to a title."""
    asked = (message.text for message in messages if isinstance(message, UserMessage))
    words = " ".join(clean(next(asked, "")).split())
    return words if len(words) <= _TITLE else f"{words[: _TITLE - 1].rstrip()}…"


def new_conversation(
    owner: str,
    skills: Sequence[SkillSpec],
    *,
    title: str,
    lmm: str,
    now: datetime,
    id: str | None = None,
) -> KeptConversation:
    """A conversation that begins; its id is a new one if none is given."""
    return KeptConversation(
        id=id or new_id("conv"),
        owner=owner,
        title=clean(title),
        lmm=clean(lmm),
        skills=tuple(skills),
        head=None,
        created=now,
        updated=now,
    )


def conversation_columns(kept: KeptConversation, catalogue: str) -> dict[str, Any]:
    """The row of a conversation whose skills have the hash `catalogue`."""
    return {
        "id": kept.id,
        "owner": kept.owner,
        "title": kept.title,
        "sought": sought([kept.title]),
        "lmm": kept.lmm,
        "catalogue": catalogue,
        "head": kept.head,
        "created": kept.created,
        "updated": kept.updated,
    }


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


def begun_turn(
    id: str,
    conversation: str,
    grown: Grown,
    *,
    created: datetime,
    parent: str | None = None,
    state: TurnState = TurnState.RUNNING,
    seconds: float = 0.0,
    steps: Sequence[Mapping[str, Any]] = (),
    error: SkillProblem | None = None,
    vote: str | None = None,
    comment: str = "",
    finished: datetime | None = None,
) -> KeptTurn:
    """A turn that has come so far; one that has just begun unless told otherwise."""
    return KeptTurn(
        id=id,
        conversation=conversation,
        parent=parent,
        state=state,
        messages=grown.messages,
        images=grown.images,
        masks=grown.masks,
        seconds=seconds,
        steps=tuple(steps),
        error=error,
        vote=Vote(vote) if vote else None,
        comment=comment,
        created=created,
        finished=finished,
    )


def told(grown: Grown) -> dict[str, Any]:
    """The columns of a turn that hold what was said and made in it."""
    return {
        "messages": _MESSAGES.dump_python(grown.messages, mode="json"),
        "images": _IMAGES.dump_python(dict(grown.images), mode="json"),
        "masks": _MASKS.dump_python(dict(grown.masks), mode="json"),
        "sought": sought(_words(message) for message in grown.messages),
    }


def turn_columns(kept: KeptTurn, grown: Grown, lease_until: datetime) -> dict[str, Any]:
    """The row of a turn that begins with `grown`."""
    return {
        "id": kept.id,
        "conversation": kept.conversation,
        "parent": kept.parent,
        "state": kept.state,
        **told(grown),
        "steps": [],
        "seconds": kept.seconds,
        "comment": kept.comment,
        "created": kept.created,
        "lease_until": lease_until,
    }


def kept_turn(row: TurnRow, now: datetime) -> KeptTurn:
    """The turn of a row; one that runs is interrupted when its lease has run out by `now`."""
    state = TurnState(row.state)
    if state is TurnState.RUNNING and (row.lease_until is None or row.lease_until < now):
        state = TurnState.INTERRUPTED
    grown = Grown(
        messages=_MESSAGES.validate_python(row.messages),
        images=_IMAGES.validate_python(row.images),
        masks=_MASKS.validate_python(row.masks),
    )
    return begun_turn(
        row.id,
        row.conversation,
        grown,
        parent=row.parent,
        state=state,
        seconds=row.seconds,
        steps=row.steps,
        error=SkillProblem.model_validate(row.error) if row.error else None,
        vote=row.vote,
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
