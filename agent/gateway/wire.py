"""POST /v1/chat/completions in types: OpenAI's request and answers, and what we add to them.

Fields that are not known are passed over, as OpenAI's own server does with those of the future.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ...skills.calls import SkillName, SkillProblem
from ...skills.geometry import Mask
from ...skills.progress import Progress

__all__ = [
    "AssistantSaid",
    "CalledFunction",
    "ChatRequest",
    "Chunk",
    "ChunkChoice",
    "ClientFunction",
    "ClientTool",
    "Completion",
    "CompletionChoice",
    "CompletionMessage",
    "CompletionRequest",
    "CompletionUsage",
    "Delta",
    "EditRequest",
    "FilePart",
    "FileReference",
    "Finish",
    "ImagePart",
    "ImageUrl",
    "Made",
    "Penalty",
    "PromptDetails",
    "RequestForm",
    "Said",
    "SkillEvent",
    "SystemSaid",
    "TextPart",
    "ToolCall",
    "ToolCallDelta",
    "ToolSaid",
    "UserPart",
    "UserSaid",
]


class RequestForm(BaseModel):
    """A part of a request; JSON has its own types, so a text is no number."""

    model_config = ConfigDict(strict=True, frozen=True)


# --- what clients send


class TextPart(RequestForm):
    """Words."""

    type: Literal["text"]
    text: str


class ImageUrl(RequestForm):
    """Where an image is: a data URI, or http(s) where the operator allows it."""

    url: str
    detail: str | None = None


class ImagePart(RequestForm):
    """An image, whole or by its address."""

    type: Literal["image_url"]
    image_url: ImageUrl


class FileReference(RequestForm):
    """A file of /v1/files."""

    file_id: str


class FilePart(RequestForm):
    """An image that was uploaded before."""

    type: Literal["file"]
    file: FileReference


UserPart = Annotated[TextPart | ImagePart | FilePart, Field(discriminator="type")]


class SystemSaid(RequestForm):
    """What the application asks for; it is put before the next request of the user."""

    role: Literal["system", "developer"]
    content: str | list[TextPart]


class UserSaid(RequestForm):
    """A request."""

    role: Literal["user"]
    content: str | list[UserPart]


class CalledFunction(RequestForm):
    """A function with its arguments as JSON text."""

    name: str
    arguments: str


class ToolCall(RequestForm):
    """A call of one of the client's tools."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class AssistantSaid(RequestForm):
    """An earlier answer."""

    role: Literal["assistant"]
    content: str | list[TextPart] | None = None
    tool_calls: list[ToolCall] | None = None


class ToolSaid(RequestForm):
    """What a call of one of the client's tools brought."""

    role: Literal["tool"]
    tool_call_id: str
    content: str | list[TextPart]


Said = Annotated[SystemSaid | UserSaid | AssistantSaid | ToolSaid, Field(discriminator="role")]


class ClientFunction(RequestForm):
    """What a tool of the client does and takes; `parameters` is a JSON schema."""

    name: SkillName
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ClientTool(RequestForm):
    """A tool that the client runs itself: its calls are handed back."""

    type: Literal["function"]
    function: ClientFunction


class StreamOptions(RequestForm):
    """`include_usage` asks for a last chunk with the usage of the whole turn."""

    include_usage: bool | None = None


class ResponseFormat(RequestForm):
    """Answers are text."""

    type: Literal["text"]


Penalty = Annotated[float, Field(ge=-2, le=2)]
"""How much less likely tokens become that were written before."""


class CompletionRequest(RequestForm):
    """How a turn is taken and told of, as a chat completion.

    `skills` names those on offer, all when left out. `store` false keeps nothing of it. Each
    reply of the LMM, which makes several where it calls skills, is sampled as far as it can.
    """

    model: str | None = None
    tools: list[ClientTool] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    skills: list[str] | None = None
    skill_events: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None


class ChatRequest(CompletionRequest):
    """A chat completion to make.

    With `conversation`, a kept conversation goes on and only the last message counts. `skills`
    names those on offer, all when left out. `store` false keeps nothing of it.
    """

    messages: Annotated[list[Said], Field(min_length=1)]
    conversation: str | None = None
    parallel_tool_calls: bool | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = None
    response_format: ResponseFormat | None = None
    metadata: dict[str, str] | None = None


class EditRequest(CompletionRequest):
    """The request of a turn in other words."""

    text: str


# --- what they get


class Made(BaseModel):
    """An image that a skill made, by its address, or a mask as COCO's run-length encoding."""

    handle: str
    label: str = ""
    url: str | None = None
    mask: Mask | None = None


class SkillEvent(BaseModel):
    """Something that happened on the way to the answer; `id` is that of the call.

    `text_withdrawn` says that the text since the last event does not count: the reply broke off
    and is made again.
    """

    type: Literal["skill_use", "skill_progress", "skill_result", "text_withdrawn"]
    id: str | None = None
    name: str | None = None
    arguments: dict[str, Any] | None = None
    progress: Progress | None = None
    text: str | None = None
    data: dict[str, Any] | None = None
    artifacts: list[Made] | None = None
    error: SkillProblem | None = None
    seconds: float | None = None


class PromptDetails(BaseModel):
    """How much of the prompt was known from before and not computed again."""

    cached_tokens: int


class CompletionUsage(BaseModel):
    """Tokens of all replies of the turn together."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


Finish = Literal["stop", "length", "tool_calls"]


class CompletionMessage(BaseModel):
    """The answer, or calls of the client's tools."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[ToolCall] | None = None
    skill_events: list[SkillEvent] | None = None


class CompletionChoice(BaseModel):
    """The one choice that there is."""

    index: Literal[0] = 0
    message: CompletionMessage
    logprobs: None = None
    finish_reason: Finish


class Completion(BaseModel):
    """A whole answer; `id` is the turn's, and `conversation` where it is kept, if it is."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: CompletionUsage
    conversation: str | None


class ToolCallDelta(ToolCall):
    """A whole call: they are not sent in pieces."""

    index: int


class Delta(BaseModel):
    """What a chunk adds to the answer."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChunkChoice(BaseModel):
    """The one choice that there is."""

    index: Literal[0] = 0
    delta: Delta = Delta()
    logprobs: None = None
    finish_reason: Finish | None = None


class Chunk(BaseModel):
    """A piece of an answer, as the data of one server-sent event."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: CompletionUsage | None = None
    conversation: str | None
    skill_event: SkillEvent | None = None
