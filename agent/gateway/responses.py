"""POST /v1/responses: the same turns in OpenAI's newer protocol."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Literal

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ...model.sampling import Sampling
from ...skills.streaming import unless_gone
from ..chats import ChatEvent, Chats, TurnBegan
from .access import Caller
from .errors import BadField
from .problems import documented, problem_of
from .requests import StrictRoute
from .responses_wire import (
    FunctionCall,
    Incomplete,
    InputCall,
    InputImage,
    InputItem,
    InputMessage,
    InputResult,
    InputText,
    OutputMessage,
    OutputText,
    ResponseError,
    ResponseEvent,
    ResponseObject,
    ResponseRequest,
    ResponseUsage,
)
from .routing import ChatCaller, access_of, chats_of, reader_of
from .skill_events import usage_of
from .sse import EventStream, encode_event, streamed
from .turns import Heard, Piece, begun, held
from .wanted import Wanted, options_of, turn_wanted
from .wire import (
    AssistantSaid,
    CalledFunction,
    ClientFunction,
    ClientTool,
    FilePart,
    FileReference,
    ImagePart,
    ImageUrl,
    Said,
    SystemSaid,
    TextPart,
    ToolCall,
    ToolSaid,
    UserPart,
    UserSaid,
)

__all__ = ["router"]

log = logging.getLogger(__name__)

router = APIRouter(route_class=StrictRoute, tags=["responses"])


@router.post(
    "/v1/responses",
    response_model=ResponseObject,
    responses=streamed("The answer, or its events.") | documented(404, 409, 502, 504),
)
async def create_response(request: Request, body: ResponseRequest, caller: ChatCaller) -> Response:
    """Answer the input, calling skills on the way; calls of the client's tools come back."""
    chats = chats_of(request)
    wanted = await _wanted(chats, caller, body)
    model = body.model or next(iter(chats.lmms))
    events = held(
        access_of(request), caller, turn_wanted(chats, wanted, reader_of(request, caller))
    )
    if not body.stream:
        whole = await unless_gone(request, _whole(body, model, events))
        return Response(whole.model_dump_json(exclude_none=True), media_type="application/json")
    head = _head(body, model, await begun(events))
    return EventStream(_encoded(body, head, events))


# --- from the input to messages


async def _wanted(chats: Chats, caller: Caller, body: ResponseRequest) -> Wanted:
    tools = [
        ClientTool(type="function", function=ClientFunction(**tool.model_dump(exclude={"type"})))
        for tool in body.tools or ()
    ]
    sampling = Sampling(
        temperature=body.temperature,
        top_p=body.top_p,
        max_completion_tokens=body.max_output_tokens,
    )
    options = replace(options_of(chats, body, tools), sampling=sampling)
    items = body.input
    if isinstance(items, str):
        items = [InputMessage(role="user", content=items)]
    messages = [_said(item, f"input.{number}") for number, item in enumerate(items)]
    instructions = body.instructions or ""
    if body.previous_response_id is None:
        system = [SystemSaid(role="system", content=instructions)] if instructions else []
        return Wanted(messages=_joined([*system, *messages]), options=options, root="input")
    turn = await chats.store.turn(body.previous_response_id, caller.owner)
    return Wanted(
        messages=messages,
        options=options,
        conversation=turn.conversation,
        parent=turn.id,
        preface=instructions,
        root="input",
    )


def _said(item: InputItem, param: str) -> Said:
    match item:
        case InputCall():
            function = CalledFunction(name=item.name, arguments=item.arguments)
            return AssistantSaid(
                role="assistant", tool_calls=[ToolCall(id=item.call_id, function=function)]
            )
        case InputResult():
            return ToolSaid(role="tool", tool_call_id=item.call_id, content=_text(item.output))
        case InputMessage(role="user") if not isinstance(item.content, str):
            parts = [_part(part, f"{param}.content.{n}") for n, part in enumerate(item.content)]
            return UserSaid(role="user", content=parts)
    text = _text(item.content)
    match item.role:
        case "user":
            return UserSaid(role="user", content=text)
        case "assistant":
            return AssistantSaid(role="assistant", content=text)
        case "system" | "developer":
            return SystemSaid(role="system", content=text)


def _part(part: InputText | InputImage, param: str) -> UserPart:
    if isinstance(part, InputText):
        return TextPart(type="text", text=part.text)
    if part.file_id is not None:
        return FilePart(type="file", file=FileReference(file_id=part.file_id))
    if part.image_url is None:
        raise BadField(f"{param}: give image_url or file_id", param=param)
    return ImagePart(type="image_url", image_url=ImageUrl(url=part.image_url))


def _text(content: str | Sequence[InputText | InputImage]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.text for part in content if isinstance(part, InputText))


def _joined(messages: Sequence[Said]) -> list[Said]:
    """The calls of one reply, which are items of their own here, in one message."""
    joined: list[Said] = []
    for message in messages:
        last = joined[-1] if joined else None
        if (
            isinstance(message, AssistantSaid)
            and isinstance(last, AssistantSaid)
            and message.tool_calls
        ):
            calls = [*(last.tool_calls or ()), *message.tool_calls]
            joined[-1] = last.model_copy(update={"tool_calls": calls})
        else:
            joined.append(message)
    return joined


# --- from the turn to the answer


async def _whole(
    body: ResponseRequest, model: str, events: AsyncGenerator[ChatEvent, None]
) -> ResponseObject:
    heard = Heard()
    began = await begun(events)
    async with aclosing(events):
        async for event in events:
            heard.take(event)
    return _completed(body, _head(body, model, began), heard)


def _head(body: ResponseRequest, model: str, began: TurnBegan) -> ResponseObject:
    """The answer before there is any of it."""
    kept = began.conversation.id
    return ResponseObject.model_validate(
        {
            "id": began.turn.id,
            "created_at": int(began.turn.created.timestamp()),
            "status": "in_progress",
            "model": model,
            "instructions": body.instructions,
            "previous_response_id": body.previous_response_id,
            "metadata": body.metadata or {},
            "tool_choice": body.tool_choice or "auto",
            "tools": [tool.model_dump() for tool in body.tools or ()],
            "max_output_tokens": body.max_output_tokens,
            "temperature": body.temperature,
            "top_p": body.top_p,
            "conversation": {"id": kept} if kept else None,
        }
    )


def _completed(body: ResponseRequest, head: ResponseObject, heard: Heard) -> ResponseObject:
    usage = usage_of(heard.steps)
    state: Literal["completed", "incomplete"] = "incomplete" if heard.cut_off else "completed"
    output: list[OutputMessage | FunctionCall] = []
    if heard.text:
        output.append(_message(head, heard.text, state))
    told = heard.skill_events if body.skill_events is not False else None
    update = {
        "status": state,
        "incomplete_details": Incomplete() if heard.cut_off else None,
        "output": [*output, *_calls(head, heard)],
        "usage": ResponseUsage.model_validate(
            {
                "input_tokens": usage.prompt_tokens,
                "input_tokens_details": usage.prompt_tokens_details.model_dump(),
                "output_tokens": usage.completion_tokens,
                "total_tokens": usage.total_tokens,
            }
        ),
        "skill_events": told or None,
    }
    return head.model_copy(update=update)


def _message(
    head: ResponseObject, text: str, status: Literal["in_progress", "completed", "incomplete"]
) -> OutputMessage:
    return OutputMessage(id=f"msg_{head.id}", status=status, content=[OutputText(text=text)])


def _calls(head: ResponseObject, heard: Heard) -> list[FunctionCall]:
    calls = [use.tool_call() for use in heard.handed_back]
    return [
        FunctionCall(id=f"fc_{number}_{head.id}", call_id=call["id"], **call["function"])
        for number, call in enumerate(calls)
    ]


async def _encoded(
    body: ResponseRequest, head: ResponseObject, events: AsyncGenerator[ChatEvent, None]
) -> AsyncGenerator[bytes, None]:
    """The turn as server-sent events; the last one tells that it is whole, or what it lacks."""
    telling = _Telling(body, head)
    try:
        for event in telling.created():
            yield _event(event)
        async with aclosing(events):
            async for happened in events:
                for piece in telling.heard.take(happened):
                    for event in telling.piece(piece):
                        yield _event(event)
        for event in telling.completed():
            yield _event(event)
    except Exception as error:  # told here, where there is still somebody to tell
        problem = problem_of(error)
        if problem.status == 500:
            log.error("a stream broke off", exc_info=error)
        yield _event(telling.failed(problem.detail.message))


def _event(event: ResponseEvent) -> bytes:
    return encode_event(event.model_dump_json(exclude_none=True), name=event.type)


class _Telling:
    """Numbers the events of one answer, which has one message and then the calls."""

    def __init__(self, body: ResponseRequest, head: ResponseObject) -> None:
        self.heard = Heard()
        self._body = body
        self._head = head
        self._count = 0
        self._speaking = False
        self._place = {"item_id": f"msg_{head.id}", "output_index": 0, "content_index": 0}

    def created(self) -> Iterator[ResponseEvent]:
        yield self._next("response.created", response=self._head)
        yield self._next("response.in_progress", response=self._head)

    def piece(self, piece: Piece) -> Iterator[ResponseEvent]:
        if piece.skill_event and self._body.skill_events is not False:
            yield self._next("response.skill_event", skill_event=piece.skill_event)
        if piece.text and not self._speaking:
            self._speaking = True
            item = _message(self._head, "", "in_progress").model_copy(update={"content": []})
            yield self._next("response.output_item.added", item=item, output_index=0)
            part = OutputText(text="")
            yield self._next("response.content_part.added", part=part, **self._place)
        if piece.text:
            yield self._next(
                "response.output_text.delta", delta=piece.text, logprobs=[], **self._place
            )

    def completed(self) -> Iterator[ResponseEvent]:
        whole = _completed(self._body, self._head, self.heard)
        for index, item in enumerate(whole.output):
            if isinstance(item, OutputMessage):
                yield from self._spoken(item, self.heard.text)
            else:
                yield from self._called(item, index)
        yield self._next(f"response.{whole.status}", response=whole)

    def failed(self, message: str) -> ResponseEvent:
        error = ResponseError(message=message)
        failed = self._head.model_copy(update={"status": "failed", "error": error})
        return self._next("response.failed", response=failed)

    def _spoken(self, item: OutputMessage, text: str) -> Iterator[ResponseEvent]:
        yield self._next("response.output_text.done", text=text, logprobs=[], **self._place)
        part = item.content[0]
        yield self._next("response.content_part.done", part=part, **self._place)
        yield self._next("response.output_item.done", item=item, output_index=0)

    def _called(self, item: FunctionCall, index: int) -> Iterator[ResponseEvent]:
        begun = item.model_copy(update={"status": "in_progress", "arguments": ""})
        place: dict[str, Any] = {"item_id": item.id, "output_index": index}
        yield self._next("response.output_item.added", item=begun, output_index=index)
        arguments = item.arguments
        yield self._next("response.function_call_arguments.delta", delta=arguments, **place)
        yield self._next("response.function_call_arguments.done", arguments=arguments, **place)
        yield self._next("response.output_item.done", item=item, output_index=index)

    def _next(self, type_: str, **fields: Any) -> ResponseEvent:
        self._count += 1
        return ResponseEvent(type=type_, sequence_number=self._count - 1, **fields)
