"""A request once more, or in other words: another branch of a kept conversation."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body
from starlette.requests import Request
from starlette.responses import Response

from ..chats import Chats
from ..store.values import NotKept
from .access import Caller
from .chat_completions import COMPLETION_ANSWERS, completed
from .requests import StrictRoute
from .routing import ChatCaller, Id, chats_of
from .wanted import completion_options
from .wire import Completion, CompletionRequest, EditRequest

__all__ = ["router"]

router = APIRouter(
    prefix="/v1/conversations/{conversation_id}/turns/{turn_id}",
    route_class=StrictRoute,
    tags=["conversations"],
)

_AS_BEFORE = CompletionRequest()


@router.post("/retry", response_model=Completion, responses=COMPLETION_ANSWERS)
async def retry_turn(
    request: Request,
    conversation_id: Id,
    turn_id: Id,
    caller: ChatCaller,
    body: Annotated[CompletionRequest, Body()] = _AS_BEFORE,
) -> Response:
    """Answer the request of a turn once more, in a branch beside it."""
    chats = chats_of(request)
    await _check_place(chats, caller, conversation_id, turn_id)
    options = completion_options(chats, body)
    turn = chats.retry(caller.owner, turn_id, options=options)
    return await completed(request, body, caller, turn)


@router.post("/edit", response_model=Completion, responses=COMPLETION_ANSWERS)
async def edit_turn(
    request: Request, conversation_id: Id, turn_id: Id, body: EditRequest, caller: ChatCaller
) -> Response:
    """Answer the request of a turn in other words, with its images, in a branch beside it."""
    chats = chats_of(request)
    await _check_place(chats, caller, conversation_id, turn_id)
    options = completion_options(chats, body)
    turn = chats.edit(caller.owner, turn_id, body.text, options=options)
    return await completed(request, body, caller, turn)


async def _check_place(chats: Chats, caller: Caller, conversation: str, turn: str) -> None:
    """Raises `NotKept` for a turn that is not of the conversation."""
    kept = await chats.store.turn(turn, caller.owner)
    if kept.conversation != conversation:
        raise NotKept(f"there is no turn {turn!r} in the conversation {conversation!r}")
