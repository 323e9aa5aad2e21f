"""Records read back from their files: the exact inverse of `Record.to_line`.

What others have written is read by `training_data/records`, with repairs; nothing is repaired
here.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError

from ..skills.calls import SkillProblem, SkillResult, SkillSpec, SkillUse
from ..skills.errors import BadInput
from ..skills.geometry import Mask
from ..skills.skill import describe_validation
from .conversation import AssistantMessage, Marks, Message, SkillMessage, UserMessage
from .record import ERROR, Record, handles_made

__all__ = ["read_record"]

_PROBLEM = "Error: "
_HANDLE = re.compile(r"(img_\d+)\n")


def read_record(line: str | bytes) -> Record:
    """The record that a line of a file holds. Raises `BadInput` for what llava-plus never writes.

    Further fields of the record itself are passed over: they are somebody's notes.
    """
    try:
        return _Reading(_Written.model_validate_json(line)).record()
    except ValidationError as error:
        # What has no place is the line as a whole, not the arguments of a call.
        problem = describe_validation(error).removeprefix("arguments: ")
        raise BadInput(
            f"it is no record as llava-plus writes them ({problem}); "
            "`llava-plus data import` reads those of other formats"
        ) from error


class _Form(BaseModel):
    """A part of a record in its file; a field that is not known would be lost, so it is wrong."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Image(_Form):
    type: Literal["image"]


class _Text(_Form):
    type: Literal["text"]
    text: str


class _Request(_Form):
    role: Literal["user"]
    content: Annotated[list[_Image | _Text], Field(min_length=1)]


class _Function(_Form):
    name: str
    arguments: Json[dict[str, Any]]


class _Call(_Form):
    id: str
    type: Literal["function"]
    function: _Function


class _Reply(_Form):
    role: Literal["assistant"]
    content: str
    reasoning_content: str = ""
    tool_calls: list[_Call] = []


class _Result(_Form):
    role: Literal["tool"]
    tool_call_id: str
    name: str
    content: str


class _Tool(_Form):
    type: Literal["function"]
    function: SkillSpec


_Said = Annotated[_Request | _Reply | _Result, Field(discriminator="role")]


class _Written(BaseModel):
    id: str = ""
    source: str = ""
    messages: list[_Said]
    tools: list[_Tool]
    images: list[str]
    made: dict[str, str]
    masks: dict[str, Mask]
    data: list[Json[dict[str, Any]]] | None = None


class _Reading:
    """Puts a record together, message by message. Raises `BadInput`."""

    def __init__(self, written: _Written) -> None:
        self._written = written
        self._shown: dict[str, str] = {}
        self._images = self._masks = 0
        said = written.messages
        parts = [part for one in said if isinstance(one, _Request) for part in one.content]
        images = sum(isinstance(part, _Image) for part in parts)
        if images != len(written.images):
            raise BadInput(f"its messages show {images} images, `images` names another number")
        results = sum(isinstance(one, _Result) for one in said)
        data = [{} for _ in range(results)] if written.data is None else written.data
        if results != len(data):
            raise BadInput(f"it has {results} results, `data` is of another number")
        self._files, self._data = iter(written.images), iter(data)

    def record(self) -> Record:
        written = self._written
        messages = tuple(self._message(said) for said in written.messages)
        return Record(
            id=written.id,
            source=written.source,
            skills=tuple(tool.function for tool in written.tools),
            messages=messages,
            images={**self._shown, **written.made},
            masks=written.masks,
        )

    def _message(self, said: _Request | _Reply | _Result) -> Message:
        match said:
            case _Request():
                return self._request(said)
            case _Result():
                return self._result(said)
            case _Reply():
                called = [(call.id, call.function) for call in said.tool_calls]
                uses = tuple(
                    SkillUse(id=id, name=function.name, arguments=function.arguments)
                    for id, function in called
                )
                return AssistantMessage(
                    text=said.content, thoughts=said.reasoning_content, skill_uses=uses
                )

    def _request(self, said: _Request) -> UserMessage:
        *named, last = said.content
        handles: list[str] = []
        at_hand = False
        for part in named:
            if isinstance(part, _Image) and not at_hand:
                at_hand = True
                continue
            handles.append(_handle(part))
            if at_hand:
                self._shown[handles[-1]] = next(self._files)
            at_hand = False
        if at_hand or isinstance(last, _Image):
            raise BadInput("an image of a request has no handle behind it, or no words follow")
        self._images += len(handles)
        text, line_break, line = last.text.rpartition("\n")
        marks = Marks.read(line) if line_break else None
        painted = [int(handle.removeprefix("mask_")) for handle in marks.masks] if marks else []
        self._masks = max([self._masks, *painted])
        return UserMessage(text=text if marks else last.text, images=tuple(handles), marks=marks)

    def _result(self, said: _Result) -> SkillMessage:
        told = SkillResult(id=said.tool_call_id, name=said.name, data=next(self._data))
        if said.content.startswith(_PROBLEM):
            problem = SkillProblem(kind=ERROR, message=said.content.removeprefix(_PROBLEM))
            return SkillMessage(result=told.model_copy(update={"error": problem}))
        images, masks = handles_made(said.content, self._images, self._masks)
        self._images += len(images)
        self._masks += len(masks)
        return SkillMessage(
            result=told.model_copy(update={"text": said.content}),
            images=tuple(images),
            masks=tuple(masks),
        )


def _handle(part: _Image | _Text) -> str:
    text = part.text if isinstance(part, _Text) else "an image"
    named = _HANDLE.fullmatch(text)
    if not named:
        raise BadInput(f"{text!r:.60} stands where the handle of an image should")
    return named[1]
