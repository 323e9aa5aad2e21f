"""POST /v1/chat/completions."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from ...skills.streaming import unless_gone
from ..chats import ChatEvent, TurnBegan
from .access import Caller
from .errors import ErrorBody
from .problems import documented, problem_of
from .requests import StrictRoute
from .routing import ChatCaller, access_of, chats_of, reader_of
from .skill_events import usage_of
from .sse import DONE, EventStream, encode_event, streamed
from .turns import Heard, begun, held
from .wanted import Wanted, completion_options, turn_wanted
from .wire import (
    CalledFunction,
    ChatRequest,
    Chunk,
    ChunkChoice,
    Completion,
    CompletionChoice,
    CompletionMessage,
    CompletionRequest,
    CompletionUsage,
    Delta,
    Finish,
    ToolCall,
    ToolCallDelta,
)

__all__ = ["COMPLETION_ANSWERS", "completed", "router"]

log = logging.getLogger(__name__)

router = APIRouter(route_class=StrictRoute, tags=["chat"])

COMPLETION_ANSWERS = streamed("The answer, or its chunks as server-sent events.") | documented(
    404, 409, 502, 504
)
"""What a route may answer with that makes a chat completion, for its document."""


@router.post(
    "/v1/chat/completions",
    response_model=Completion,
    responses=COMPLETION_ANSWERS,
)
async def create_chat_completion(
    request: Request, body: ChatRequest, caller: ChatCaller
) -> Response:
    """Answer the last message, calling skills on the way; calls of the client's tools come back."""
    chats = chats_of(request)
    wanted = Wanted(
        messages=body.messages,
        options=completion_options(chats, body),
        conversation=body.conversation,
    )
    turn = turn_wanted(chats, wanted, reader_of(request, caller))
    return await completed(request, body, caller, turn)


async def completed(
    request: Request,
    body: CompletionRequest,
    caller: Caller,
    turn: AsyncGenerator[ChatEvent, None],
) -> Response:
    """The answer of a turn, whole or in chunks. Raises what is wrong with the request."""
    model = body.model or next(iter(chats_of(request).lmms))
    events = held(access_of(request), caller, turn)
    if not body.stream:
        whole = await unless_gone(request, _whole(body, model, events))
        return Response(whole.model_dump_json(exclude_unset=True), media_type="application/json")
    return EventStream(_encoded(body, _head(await begun(events), model), events))


# --- from a turn to the answer


async def _whole(
    body: CompletionRequest, model: str, events: AsyncGenerator[ChatEvent, None]
) -> Completion:
    heard = Heard()
    began: TurnBegan | None = None
    async with aclosing(events):
        async for event in events:
            began = event if isinstance(event, TurnBegan) else began
            heard.take(event)
    assert began is not None
    message: dict[str, Any] = {"role": "assistant", "content": heard.text or None, "refusal": None}
    if heard.handed_back:
        message["tool_calls"] = _tool_calls(heard)
    if heard.skill_events and body.skill_events is not False:
        message["skill_events"] = heard.skill_events
    choice = CompletionChoice(
        index=0,
        message=CompletionMessage(**message),
        logprobs=None,
        finish_reason=_finish(heard),
    )
    return Completion(
        **_head(began, model),
        object="chat.completion",
        choices=[choice],
        usage=usage_of(heard.steps),
    )


async def _encoded(
    body: CompletionRequest, head: Mapping[str, Any], events: AsyncGenerator[ChatEvent, None]
) -> AsyncGenerator[bytes, None]:
    """The turn as server-sent events; what keeps it from an answer is the last of them."""
    try:
        async with aclosing(_chunks(body, head, events)) as chunks:
            async for chunk in chunks:
                yield chunk
        yield DONE
    except Exception as error:  # told here, where there is still somebody to tell
        problem = problem_of(error)
        if problem.status == 500:
            log.error("a stream broke off", exc_info=error)
        yield encode_event(ErrorBody(error=problem.detail).model_dump_json())


async def _chunks(
    body: CompletionRequest, head: Mapping[str, Any], events: AsyncGenerator[ChatEvent, None]
) -> AsyncGenerator[bytes, None]:
    heard, words = Heard(), _Words(head)
    async with aclosing(events):
        yield _encode(_chunk(head, Delta(role="assistant", content="")))
        async for event in events:
            for piece in heard.take(event):
                if piece.text:
                    yield words.encode(piece.text)
                elif piece.skill_event and body.skill_events is not False:
                    told = _chunk(head, Delta())
                    yield _encode(told.model_copy(update={"skill_event": piece.skill_event}))
    if heard.handed_back:
        calls = enumerate(_tool_calls(heard))
        deltas = [ToolCallDelta(index=index, **call.model_dump()) for index, call in calls]
        yield _encode(_chunk(head, Delta(tool_calls=deltas)))
    yield _encode(_chunk(head, Delta(), finish=_finish(heard)))
    if body.stream_options and body.stream_options.include_usage:
        yield _encode(_usage_chunk(head, usage_of(heard.steps)))


class _Words:
    """Encodes the chunks of a stream that hold words; all else in them is the same."""

    def __init__(self, head: Mapping[str, Any]) -> None:
        one = _encode(_chunk(head, Delta(content="")))
        before, content, after = one.rpartition(b'"content":""')
        self._before, self._after = before + content[:-2], after

    def encode(self, text: str) -> bytes:
        return self._before + to_json(text) + self._after


def _encode(chunk: Chunk) -> bytes:
    return encode_event(chunk.model_dump_json(exclude_unset=True))


def _head(began: TurnBegan, model: str) -> dict[str, Any]:
    return {
        "id": began.turn.id,
        "created": int(began.turn.created.timestamp()),
        "model": model,
        "conversation": began.conversation.id or None,
    }


def _chunk(head: Mapping[str, Any], delta: Delta, *, finish: Finish | None = None) -> Chunk:
    choice = ChunkChoice(index=0, delta=delta, logprobs=None, finish_reason=finish)
    return Chunk(**head, object="chat.completion.chunk", choices=[choice])


def _usage_chunk(head: Mapping[str, Any], usage: CompletionUsage) -> Chunk:
    return Chunk(**head, object="chat.completion.chunk", choices=[], usage=usage)


def _finish(heard: Heard) -> Finish:
    if heard.handed_back:
        return "tool_calls"
    return "length" if heard.cut_off else "stop"


def _tool_calls(heard: Heard) -> list[ToolCall]:
    calls = [use.tool_call() for use in heard.handed_back]
    return [
        ToolCall(id=call["id"], type="function", function=CalledFunction(**call["function"]))
        for call in calls
    ]
