"""POST /v1/responses in types: the part of OpenAI's Responses API that is served here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag

from ...skills.calls import SkillName
from .wire import RequestForm, SkillEvent

__all__ = [
    "FunctionCall",
    "Incomplete",
    "InputCall",
    "InputImage",
    "InputItem",
    "InputMessage",
    "InputResult",
    "InputText",
    "OutputMessage",
    "OutputText",
    "ResponseError",
    "ResponseEvent",
    "ResponseObject",
    "ResponseRequest",
    "ResponseTool",
    "ResponseUsage",
]


class InputText(RequestForm):
    """Words, also those of an earlier answer."""

    type: Literal["input_text", "output_text"]
    text: str


class InputImage(RequestForm):
    """An image: a data URI, an address, or a file of /v1/files."""

    type: Literal["input_image"]
    image_url: str | None = None
    file_id: str | None = None
    detail: str | None = None


InputPart = Annotated[InputText | InputImage, Field(discriminator="type")]


class InputMessage(RequestForm):
    """What somebody said."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[InputPart]


class InputCall(RequestForm):
    """An earlier call of one of the client's tools."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class InputResult(RequestForm):
    """What such a call brought."""

    type: Literal["function_call_output"]
    call_id: str
    output: str | list[InputText]


def _kind(item: object) -> str | None:
    """Messages may come without their type."""
    given = item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", None)
    return given if isinstance(given, str) else None


InputItem = Annotated[
    Annotated[InputMessage, Tag("message")]
    | Annotated[InputCall, Tag("function_call")]
    | Annotated[InputResult, Tag("function_call_output")],
    Discriminator(_kind),
]


class ResponseTool(RequestForm):
    """A tool that the client runs itself."""

    type: Literal["function"]
    name: SkillName
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ResponseRequest(RequestForm):
    """An answer to make; with `previous_response_id` it goes on behind that answer.

    `instructions` are put before the request. `max_output_tokens` bounds each reply of the LMM.
    `skills` names those on offer, all when left out. `store` false keeps nothing of it.
    """

    input: str | Annotated[list[InputItem], Field(min_length=1)]
    model: str | None = None
    instructions: str | None = None
    tools: list[ResponseTool] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    previous_response_id: str | None = None
    stream: bool | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    skills: list[str] | None = None
    skill_events: bool | None = None


class OutputText(BaseModel):
    """Words of the answer."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[Any] = []


class OutputMessage(BaseModel):
    """The answer."""

    type: Literal["message"] = "message"
    id: str
    role: Literal["assistant"] = "assistant"
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText]


class FunctionCall(BaseModel):
    """A call that is handed back."""

    type: Literal["function_call"] = "function_call"
    id: str
    call_id: str
    name: str
    arguments: str
    status: Literal["in_progress", "completed"] = "completed"


class _Cached(BaseModel):
    cached_tokens: int


class _Reasoning(BaseModel):
    reasoning_tokens: int = 0


class ResponseUsage(BaseModel):
    """Tokens of all replies of the turn together."""

    input_tokens: int
    input_tokens_details: _Cached
    output_tokens: int
    output_tokens_details: _Reasoning = _Reasoning()
    total_tokens: int


class ResponseError(BaseModel):
    """What kept the turn from an answer."""

    code: Literal["server_error"] = "server_error"
    message: str


class Incomplete(BaseModel):
    """Why the answer breaks off."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class _Conversation(BaseModel):
    id: str


class ResponseObject(BaseModel):
    """An answer; `id` is the turn's, and `conversation` where it is kept, if it is."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    model: str
    output: list[OutputMessage | FunctionCall] = []
    usage: ResponseUsage | None = None
    error: ResponseError | None = None
    incomplete_details: Incomplete | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    metadata: dict[str, str] = {}
    parallel_tool_calls: bool = True
    tool_choice: Literal["none", "auto"] = "auto"
    tools: list[ResponseTool] = []
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    conversation: _Conversation | None = None
    skill_events: list[SkillEvent] | None = None


class ResponseEvent(BaseModel):
    """One event of a stream; which members it has depends on its type."""

    type: str
    sequence_number: int
    response: ResponseObject | None = None
    item: OutputMessage | FunctionCall | None = None
    part: OutputText | None = None
    item_id: str | None = None
    output_index: int | None = None
    content_index: int | None = None
    delta: str | None = None
    text: str | None = None
    arguments: str | None = None
    logprobs: list[Any] | None = None
    skill_event: SkillEvent | None = None
