"""A finished conversation on disk: one JSON object with `messages`, `tools` and `images`.

It is what a chat writes, what `llava-plus data` imports and exports, and what TRL reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from ..skills.calls import SkillProblem, SkillResult, SkillSpec
from ..skills.geometry import Mask
from ..skills.images import ImageRef
from .conversation import Conversation, Message, SkillMessage, UserMessage, chat_message

__all__ = ["ERROR", "Record", "handles_made"]

ERROR = "SkillError"
"""The kind of every problem in a record, which keeps only what the LMM read of it."""

_MADE = re.compile(r"(?:^|\n)Made ((?:img|mask)_\d+[^\n]*)\.$")
_HANDLE = re.compile(r"(?:^|, )((?:img|mask)_\d+)(?= \(|, |$)")


class Record(BaseModel):
    """A conversation whose images are files.

    `images` maps handles to files, absolute or from the folder of the record: those that people
    gave, and those that skills made. An image that is named but not at hand is not among them.
    """

    model_config = ConfigDict(frozen=True)

    id: str = ""
    source: str = ""
    skills: tuple[SkillSpec, ...] = ()
    messages: tuple[Message, ...]
    images: Mapping[str, str] = {}
    masks: Mapping[str, Mask] = {}

    @classmethod
    def of(cls, conversation: Conversation, files: Mapping[str, str], *, id: str = "") -> Record:
        """The record of a conversation whose images lie in `files`, by handle."""
        return cls(
            id=id,
            skills=tuple(SkillSpec.from_tool(tool) for tool in conversation.tools()),
            messages=tuple(_as_read(message) for message in conversation.messages),
            images=dict(files),
            masks=conversation.masks,
        )

    def conversation(self, images: Mapping[str, ImageRef]) -> Conversation:
        """The conversation, with those of its images that are in `images`.

        It renders like the one that was recorded, as far as these are those that the LMM saw.
        """
        return Conversation(
            skills=self.skills,
            messages=self.messages,
            images={handle: ref for handle, ref in images.items() if handle in self.images},
            masks=self.masks,
        )

    @property
    def shown(self) -> tuple[str, ...]:
        """The handles of the images that people gave, in their order."""
        asked = (message for message in self.messages if isinstance(message, UserMessage))
        return tuple(
            handle for message in asked for handle in message.images if handle in self.images
        )

    def tools(self) -> list[dict[str, Any]]:
        """The skills on offer in the OpenAI `tools` form; not to be changed in place."""
        return [_written(spec).tool for spec in self.skills]

    def to_json(self) -> dict[str, Any]:
        """The record as it stands in a file.

        `images` are those that people gave, one for each image part of `messages`, whose handle
        is in the text part behind it. `made` and `masks` hold what skills made, and `data`,
        for each `tool` message, its finding for programs, as JSON text: tables want texts.
        """
        return {**self._before_tools(), "tools": self.tools(), **self._behind_tools()}

    def to_line(self) -> str:
        """`to_json` as text on one line; the tools, which many records share, are encoded once."""
        tools = ", ".join(_written(spec).text for spec in self.skills)
        before, behind = _json(self._before_tools()), _json(self._behind_tools())
        return f'{before[:-1]}, "tools": [{tools}], {behind[1:]}'

    def _before_tools(self) -> dict[str, Any]:
        return {
            **({"id": self.id} if self.id else {}),
            **({"source": self.source} if self.source else {}),
            "messages": [_without_payload(chat_message(m, self.images)) for m in self.messages],
        }

    def _behind_tools(self) -> dict[str, Any]:
        shown = self.shown
        results = [m.result for m in self.messages if isinstance(m, SkillMessage)]
        found = any(result.data for result in results)
        return {
            "images": [self.images[handle] for handle in shown],
            "made": {handle: file for handle, file in self.images.items() if handle not in shown},
            "masks": {handle: mask.model_dump(mode="json") for handle, mask in self.masks.items()},
            **({"data": [_json(result.data) for result in results]} if found else {}),
        }


class _Tool(NamedTuple):
    """A spec, which is kept so that no other one can have its `id`, and how it is written."""

    spec: SkillSpec
    tool: dict[str, Any]
    text: str


_TOOLS: dict[int, _Tool] = {}
_MOST_TOOLS = 4096


def _written(spec: SkillSpec) -> _Tool:
    known = _TOOLS.get(id(spec))
    if known is None:
        if len(_TOOLS) >= _MOST_TOOLS:
            _TOOLS.clear()
        tool = spec.tool()
        known = _TOOLS[id(spec)] = _Tool(spec, tool, _json(tool))
    return known


def handles_made(text: str, images: int, masks: int) -> tuple[Sequence[str], Sequence[str]]:
    """The handles of images and of masks that a result announces at its end.

    They follow on the `images` and `masks` that have handles already; where they do not, they
    are somebody else's words that only look like ours, and nothing is announced.
    """
    found = _MADE.search(text)
    handles = _HANDLE.findall(found[1]) if found else []
    new_images = [handle for handle in handles if handle.startswith("img_")]
    new_masks = [handle for handle in handles if handle.startswith("mask_")]
    following = [f"img_{images + number}" for number in range(1, len(new_images) + 1)]
    following += [f"mask_{masks + number}" for number in range(1, len(new_masks) + 1)]
    return (new_images, new_masks) if [*new_images, *new_masks] == following else ([], [])


def _as_read(message: Message) -> Message:
    """A result as the LMM reads it: its artifacts are words and handles."""
    if not isinstance(message, SkillMessage):
        return message
    result = message.result
    plain = SkillResult(id=result.id, name=result.name, data=result.data)
    if result.error:
        problem = SkillProblem(kind=ERROR, message=result.error.message)
        return SkillMessage(result=plain.model_copy(update={"error": problem}))
    told = plain.model_copy(update={"text": message.text})
    return SkillMessage(result=told, images=message.images, masks=message.masks)


def _without_payload(message: dict[str, Any]) -> dict[str, Any]:
    """TRL takes an image part that holds anything for one that holds the image."""
    if not isinstance(message["content"], list):
        return message
    bare = [{"type": "image"} if part["type"] == "image" else part for part in message["content"]]
    return {**message, "content": bare}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
