"""A model's chat template: the text of a conversation, and where in it the replies stand."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from ..skills.errors import BadConfiguration

__all__ = [
    "ChatTemplate",
    "Messages",
    "Reply",
    "Tools",
    "telling_tool_images",
    "told_tool_images",
]

_TOLD = re.compile(r"\{% set tool_images = (true|false) %\}\n")
"""What may open a template: whether its model was trained with images in results. It writes nothing
(transformers leaves the line break behind a block out).
"""

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
"""What a template puts around the text that the assistant writes (transformers' convention)."""

_ASK: dict[str, Any] = {"role": "user", "content": [{"type": "text", "text": "probe question"}]}
_ANSWER: dict[str, Any] = {"role": "assistant", "content": "probe answer"}
_CALL: dict[str, Any] = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"type": "function", "id": "probe00ab", "function": {"name": "probe", "arguments": {}}}
    ],
}
_RESULT: dict[str, Any] = {"role": "tool", "tool_call_id": "probe00ab", "name": "probe"}

Messages = list[dict[str, Any]]
Tools = list[dict[str, Any]]


def told_tool_images(template: str) -> bool | None:
    """Whether a template says that its model was trained with images in results, or without."""
    found = _TOLD.match(template)
    return found[1] == "true" if found else None


def telling_tool_images(template: str, shown: bool) -> str:
    """The template, saying whether its model was trained with images in results."""
    return f"{{% set tool_images = {str(shown).lower()} %}}\n{_TOLD.sub('', template, count=1)}"


class Reply(NamedTuple):
    """Where a reply stands in a text: from the end of its prompt to the end of its turn."""

    start: int
    stop: int


class ChatTemplate:
    """Writes messages by a template of transformers.

    `special` are the tokens that it may name; `controls` are spellings that no message holds.
    """

    def __init__(self, source: str, special: Mapping[str, Any], controls: Sequence[str]) -> None:
        self.source = source
        self._special = dict(special)
        self._controls = controls
        self._ends: dict[str, bool] = {}

    def text(self, messages: Messages, tools: Tools, *, opened: bool) -> str:
        """The messages as one text; `opened` for the next reply, or finished."""
        return self._write(messages, tools, opened=opened)[0]

    def prompt(self, messages: Messages, tools: Tools) -> tuple[str, list[int]]:
        """The text behind which the next reply is written, and where earlier ones begin."""
        text, marked = self._write(messages, tools, opened=True)
        if self._marks_replies:
            return text, [start for start, _ in marked]
        return text, self._starts(messages, tools, text, opened=True)

    def finished(self, messages: Messages, tools: Tools, end: str) -> tuple[str, list[Reply]]:
        """The text of a finished conversation and its replies, each with the `end` of its turn.

        Raises `BadConfiguration` when the template rewrites what stood before a reply.
        """
        text, marked = self._write(messages, tools, opened=False)
        if self._marks_replies:
            return text, [Reply(*span) for span in marked]
        starts = self._starts(messages, tools, text, opened=False)
        if self._closes(end):
            stops = [text.find(end, start) + len(end) for start in starts]
        else:
            # Others may have written this end: only the template knows where the turn is over.
            stops = [
                len(self.text(messages[: place + 1], tools, opened=False))
                for place in _replies(messages)
            ]
        return text, [Reply(*ends) for ends in zip(starts, stops, strict=True)]

    def shows_tool_images(self, image_token: str) -> bool:
        """Whether an image part of a result becomes one image token, before the finding."""
        from jinja2 import TemplateError

        finding = {"type": "text", "text": "probe finding"}
        result = {**_RESULT, "content": [{"type": "image", "image": "img_1"}, finding]}
        try:
            text = self.text([_ASK, _CALL, result], [], opened=True)
        except (TemplateError, TypeError):  # it has no place for results, or for texts alone
            return False
        before, found, behind = text.partition("probe finding")
        return bool(found) and before.count(image_token) == 1 and image_token not in behind

    def _starts(self, messages: Messages, tools: Tools, text: str, *, opened: bool) -> list[int]:
        """Where replies begin in the text of a template that does not mark them.

        Behind what opens them, where nobody else wrote the same; else as the template shows.
        """
        places = _replies(messages)
        if self._opener:
            found = [match.end() for match in re.finditer(re.escape(self._opener), text)]
            if len(found) == len(places) + opened:
                return found[: len(places)]
        before = [self.text(messages[:place], tools, opened=True) for place in places]
        if not all(map(text.startswith, before)):
            raise BadConfiguration("the chat template rewrites what stood before a reply")
        return [len(prompt) for prompt in before]

    def _write(
        self, messages: Messages, tools: Tools, *, opened: bool
    ) -> tuple[str, list[tuple[int, int]]]:
        """The text, and the spans that the template marks in it."""
        from transformers.utils import chat_template_utils

        # `render_jinja_template` does so too, once it has copied all messages and tools.
        compiled = chat_template_utils._compile_jinja_template(self.source)
        told = [
            {"thinking": message["reasoning_content"], **message}
            if "reasoning_content" in message
            else message
            for message in messages
        ]
        text, marked = chat_template_utils._render_with_assistant_indices(
            compiled, told, tools or None, None, opened, **self._special
        )
        return text, marked

    def _closes(self, end: str) -> bool:
        """Whether every reply has this end, and nobody else can write it."""
        if end not in self._ends:
            forged = not any(control in end for control in self._controls)
            start = len(self.text([_ASK], [], opened=True))
            replies = () if forged else (_ANSWER, _CALL)
            texts = [self.text([_ASK, reply], [], opened=False)[start:] for reply in replies]
            self._ends[end] = not forged and all(text.count(end) == 1 for text in texts)
        return self._ends[end]

    @cached_property
    def _opener(self) -> str:
        """What the template writes behind a request to open the reply."""
        asked, opened = (self.text([_ASK], [], opened=opened) for opened in (False, True))
        return opened.removeprefix(asked) if opened.startswith(asked) else ""

    @cached_property
    def _marks_replies(self) -> bool:
        """Whether the template marks replies, and from where the model goes on to write."""
        if not _GENERATION.search(self.source):
            return False
        prompt = self.text([_ASK], [], opened=True)
        _, marked = self._write([_ASK, _ANSWER], [], opened=False)
        return [start for start, _ in marked] == [len(prompt)]


def _replies(messages: Messages) -> list[int]:
    return [place for place, message in enumerate(messages) if message["role"] == "assistant"]
