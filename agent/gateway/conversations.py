"""/v1/conversations: what is kept, as lists, as trees of turns, and as training records."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.requests import Request

from ...model.conversation import chat_message
from ...model.record import Record
from ...skills.calls import SkillProblem
from ...skills.geometry import Mask
from ..record import image_name
from ..store.values import KeptConversation, KeptTurn, TurnState, Vote, restored
from .errors import BadField
from .problems import documented
from .requests import StrictRoute
from .routing import ChatCaller, Id, chats_of
from .skill_events import artifact_url
from .wire import RequestForm

__all__ = ["router"]

router = APIRouter(route_class=StrictRoute, tags=["conversations"])

_PAGE = 20
_LATEST = 253402300799
"""The last second that a date of Python can tell."""

Title = Annotated[str, Field(max_length=200)]


class NewConversation(RequestForm):
    """A conversation to begin; without `skills` all are on offer in it."""

    title: Title = ""
    skills: list[str] | None = None


class Changes(RequestForm):
    """What is to change of a conversation."""

    title: Title


class ConversationObject(BaseModel):
    """A conversation without its turns; `head` is the turn begun last, times are Unix seconds."""

    id: str
    object: Literal["conversation"] = "conversation"
    title: str
    model: str
    skills: list[str]
    head: str | None
    created_at: float
    updated_at: float

    @classmethod
    def of(cls, kept: KeptConversation) -> ConversationObject:
        """The form in which a kept conversation is told."""
        return cls(**_fields_of(kept))


class ImageObject(BaseModel):
    """What a handle of an image stands for."""

    url: str
    media_type: str
    width: int
    height: int


class TurnObject(BaseModel):
    """A request and the reply to it, with all calls and results, as chat messages.

    `images` and `masks` are what the handles stand for that are new in this turn.
    """

    id: str
    parent: str | None
    state: TurnState
    messages: list[dict[str, Any]]
    images: dict[str, ImageObject]
    masks: dict[str, Mask]
    seconds: float
    error: SkillProblem | None
    vote: Vote | None
    comment: str
    created_at: float
    finished_at: float | None

    @classmethod
    def of(cls, kept: KeptTurn) -> TurnObject:
        """The form in which a kept turn is told."""
        images = {
            handle: ImageObject(url=artifact_url(ref.sha256), **ref.model_dump(exclude={"sha256"}))
            for handle, ref in kept.images.items()
        }
        return cls(
            id=kept.id,
            parent=kept.parent,
            state=kept.state,
            messages=[chat_message(message, kept.images) for message in kept.messages],
            images=images,
            masks=dict(kept.masks),
            seconds=kept.seconds,
            error=kept.error,
            vote=kept.vote,
            comment=kept.comment,
            created_at=kept.created.timestamp(),
            finished_at=kept.finished.timestamp() if kept.finished else None,
        )


class WholeConversation(ConversationObject):
    """A conversation with all of its turns, oldest first; those with one parent are branches."""

    turns: list[TurnObject]


class ConversationList(BaseModel):
    """A page of conversations; the next one begins `before` the last one's `updated_at`."""

    object: Literal["list"] = "list"
    data: list[ConversationObject]
    has_more: bool


class ConversationDeleted(BaseModel):
    """The conversation is gone, with every image that nothing else holds."""

    id: str
    object: Literal["conversation.deleted"] = "conversation.deleted"
    deleted: Literal[True] = True


class Stopped(BaseModel):
    """The turns that ran here and were told to end."""

    id: str
    stopped: list[str]


class TrainingRecord(BaseModel):
    """One line of a file of records, as `llava-plus data` reads it.

    An image is named `images/HASH.kind`; its bytes are at /v1/artifacts/HASH.
    """

    id: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    images: list[str]
    made: dict[str, str]
    masks: dict[str, Any]
    data: list[str] | None = None


@router.get("/v1/conversations", responses=documented())
async def list_conversations(
    request: Request,
    caller: ChatCaller,
    search: Annotated[str, Query(max_length=200, pattern=r"^[^\x00]*$")] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = _PAGE,
    before: Annotated[float | None, Query(ge=0, le=_LATEST)] = None,
) -> ConversationList:
    """The caller's conversations, last changed first; `search` looks in titles and in texts."""
    found = await chats_of(request).store.conversations(
        caller.owner,
        search=search,
        limit=limit + 1,
        before=None if before is None else datetime.fromtimestamp(before, UTC),
    )
    data = [ConversationObject.of(kept) for kept in found[:limit]]
    return ConversationList(data=data, has_more=len(found) > limit)


@router.post("/v1/conversations", responses=documented())
async def create_conversation(
    request: Request, body: NewConversation, caller: ChatCaller
) -> ConversationObject:
    """Begin a conversation."""
    chats = chats_of(request)
    offered = {spec.name: spec for spec in chats.skills}
    chosen = offered if body.skills is None else dict.fromkeys(body.skills)
    for name in chosen:
        if name not in offered:
            names = ", ".join(offered) or "none"
            raise BadField(f"there is no skill {name!r}; there is: {names}", param="skills")
    specs = [offered[name] for name in chosen]
    lmm = next(iter(chats.lmms))
    kept = await chats.store.create(caller.owner, specs, title=body.title, lmm=lmm)
    return ConversationObject.of(kept)


@router.get("/v1/conversations/{conversation_id}", responses=documented(404))
async def retrieve_conversation(
    request: Request, conversation_id: Id, caller: ChatCaller
) -> WholeConversation:
    """A conversation with its turns."""
    store = chats_of(request).store
    kept = await store.conversation(conversation_id, caller.owner)
    turns = await store.turns(conversation_id, caller.owner)
    return WholeConversation(**_fields_of(kept), turns=[TurnObject.of(turn) for turn in turns])


@router.post("/v1/conversations/{conversation_id}", responses=documented(404))
async def rename_conversation(
    request: Request, conversation_id: Id, body: Changes, caller: ChatCaller
) -> ConversationObject:
    """Give a conversation another title."""
    store = chats_of(request).store
    return ConversationObject.of(await store.rename(conversation_id, caller.owner, body.title))


@router.delete("/v1/conversations/{conversation_id}", responses=documented(404))
async def delete_conversation(
    request: Request, conversation_id: Id, caller: ChatCaller
) -> ConversationDeleted:
    """Delete a conversation."""
    await chats_of(request).delete(caller.owner, conversation_id)
    return ConversationDeleted(id=conversation_id)


@router.get(
    "/v1/conversations/{conversation_id}/export",
    responses=documented(404),
    response_model_exclude_unset=True,
)
async def export_conversation(
    request: Request,
    conversation_id: Id,
    caller: ChatCaller,
    turn: Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = None,
) -> TrainingRecord:
    """One branch as a training record: that which ends with `turn`, or the one begun last."""
    store = chats_of(request).store
    kept = await store.conversation(conversation_id, caller.owner)
    last = turn or kept.head
    path = await store.path(last, caller.owner) if last else []
    if any(step.conversation != conversation_id for step in path):
        raise BadField(f"turn {turn} is of another conversation", param="turn")
    value = restored(path, kept.skills)
    files = {handle: f"images/{image_name(ref)}" for handle, ref in value.images.items()}
    record = Record.of(value, files, id=last or conversation_id)
    return TrainingRecord.model_validate(record.to_json())


@router.post("/v1/conversations/{conversation_id}/stop", responses=documented(404))
async def stop_conversation(request: Request, conversation_id: Id, caller: ChatCaller) -> Stopped:
    """End the turns of a conversation that run here; they are kept as far as they came."""
    chats = chats_of(request)
    await chats.store.conversation(conversation_id, caller.owner)
    turns = await chats.store.turns(conversation_id, caller.owner)
    running = [turn.id for turn in turns if turn.state is TurnState.RUNNING]
    stopped = [turn for turn in running if await chats.stop(caller.owner, turn)]
    return Stopped(id=conversation_id, stopped=stopped)


def _fields_of(kept: KeptConversation) -> Mapping[str, Any]:
    return {
        "id": kept.id,
        "title": kept.title,
        "model": kept.lmm,
        "skills": [spec.name for spec in kept.skills],
        "head": kept.head,
        "created_at": kept.created.timestamp(),
        "updated_at": kept.updated.timestamp(),
    }
