"""Messages in OpenAI's form: its own, TRL's, LLaMA-Factory's, and the records of this project.

`messages` with `role` and `content`; `tools`; `images`, whose places in the messages are parts
`{"type": "image"}` or `<image>` in a text, and which come first where no place is marked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from ...model.conversation import Marks
from ...model.llava_plus.literals import read_literal
from ...skills.calls import SkillSpec, SkillUse
from ...skills.geometry import Mask
from ...skills.skill import describe_validation, is_handle
from .draft import Draft
from .imported import Imported, Raw, Reason, Refusal, Repair
from .llava_plus_turns import IMAGE, plain_text, without_images

__all__ = ["is_openai", "read", "read_tools"]

_READ = "id unique_id source messages tools images image made masks data".split()
_TOOL_FIELDS = ("name", "description", "parameters", "type")
_MESSAGE_FIELDS = "role content tool_calls function_call tool_call_id name".split()
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
_ERROR = "Error: "
_HANDLE = re.compile(r"(img_\d+)\n")


def is_openai(raw: Raw) -> bool:
    """Whether it has messages with roles."""
    messages = raw.get("messages")
    return (
        isinstance(messages, list)
        and bool(messages)
        and all(isinstance(message, dict) and "role" in message for message in messages)
    )


def read(raw: Raw) -> Imported:
    """A record in OpenAI's form. Raises `Refusal`."""
    return _Reading(raw).imported()


class _Reading:
    """One record, message by message."""

    def __init__(self, raw: Raw) -> None:
        messages = raw.get("messages")
        if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
            raise Refusal(Reason.NOT_THIS_FORMAT, "it has no list `messages`")
        self._raw = raw
        self._messages: list[Raw] = messages
        id = raw.get("id", raw.get("unique_id", ""))
        self._draft = Draft(str(id), str(raw.get("source") or ""))
        self._draft.leave_out(name for name in raw if name not in _READ)
        self._files = _files(raw)
        self._in_texts = any(IMAGE in _text_of(m) for m in messages) and bool(self._files)
        self._marked = self._in_texts or any(_has_image_part(m) for m in messages)
        self._system: list[str] = []
        self._data = iter(_list(raw, "data"))

    def imported(self) -> Imported:
        """All of it. Raises `Refusal`."""
        known = (*_MESSAGE_FIELDS, *_THOUGHTS)
        for message in self._messages:
            told = (name for name, value in message.items() if value is not None)
            self._draft.leave_out(f"messages.{name}" for name in told if name not in known)
            match message.get("role"):
                case "system" | "developer":
                    self._system.append(_joined_text(message))
                case "user":
                    self._hear(message)
                case "assistant":
                    self._reply(message)
                case "tool" | "function":
                    self._result(message)
                case other:
                    raise Refusal(Reason.BAD_TURN, f"nobody known speaks: role {other!r}")
        self._draft.leave_out(["messages.system"] * bool(self._system))
        self._draft.leave_out(["images"] * bool(self._files))
        made, masks = self._raw.get("made") or {}, self._raw.get("masks") or {}
        if not isinstance(made, dict) or not isinstance(masks, dict):
            raise Refusal(Reason.NOT_THIS_FORMAT, "`made` and `masks` are no objects")
        self._draft.images |= {str(handle): str(file) for handle, file in made.items()}
        self._draft.masks = {handle: _mask(mask) for handle, mask in masks.items()}
        return self._draft.finished(read_tools(_tools(self._raw), self._draft))

    def _hear(self, message: Raw) -> None:
        files: list[str | None] = []
        texts: list[str] = []
        if not self._marked and not self._draft.messages:
            files, self._files = [*self._files], []
        parts = _parts(message)
        for place, part in enumerate(parts):
            if part["type"] == "text":
                named = _HANDLE.fullmatch(part["text"])
                if named and place + 1 < len(parts):  # the last one is what was said
                    if named[1] != self._draft.newest_image(len(files)):
                        files.append(None)  # named, and not at hand
                    continue
                texts.append(self._with_images(part["text"], files))
            else:
                files.append(self._file(part))
        text = "\n".join(texts)
        if self._system:
            text = "\n\n".join([*self._system, text])
            self._draft.repaired(Repair.SYSTEM_JOINED)
            self._system = []
        rest, line_break, line = text.rpartition("\n")
        marks = Marks.read(line) if line_break else None
        self._draft.ask(rest if marks else text, files, marks)

    def _with_images(self, text: str, files: list[str | None]) -> str:
        """The text without its `<image>`s, whose files are added, where it has such."""
        if not self._in_texts:
            return text
        rest, count = without_images(text)
        for _ in range(count):
            files.append(self._file({}))
        return rest

    def _file(self, part: Raw) -> str:
        """The file of an image part: its own, or the next one of the record."""
        own = part.get("image_url") or part.get("image") or part.get("path")
        own = own.get("url") if isinstance(own, dict) else own
        if isinstance(own, str) and not is_handle(own):
            return own
        if not self._files:
            raise Refusal(Reason.IMAGE_NOT_GIVEN, "it shows more images than it names")
        return self._files.pop(0)

    def _reply(self, message: Raw) -> None:
        calls = list(message.get("tool_calls") or ())
        if old := message.get("function_call"):
            self._draft.repaired(Repair.FUNCTION_CALL)
            calls.append({"function": old})
        thoughts = next((message[key] for key in _THOUGHTS if message.get(key)), "")
        text = _joined_text(message) if message.get("content") is not None else ""
        self._draft.reply_with([self._use(call) for call in calls], text, str(thoughts))

    def _use(self, call: Any) -> SkillUse:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise Refusal(Reason.BAD_CALL, f"{call!r:.80} is no call")
        fresh = self._draft.next_id()
        if not (id := call.get("id")):
            self._draft.repaired(Repair.CALL_ID_ADDED)
        arguments = function.get("arguments") or {}
        if isinstance(arguments, str):
            literal = read_literal(arguments.strip())
            if literal and literal.is_python:
                self._draft.repaired(Repair.PYTHON_REPR)
            arguments = literal.value if literal else None
        if not isinstance(arguments, dict):
            name = function["name"]
            raise Refusal(Reason.BAD_CALL, f"the arguments of {name} are no JSON object")
        return SkillUse(id=str(id or fresh), name=function["name"], arguments=arguments)

    def _result(self, message: Raw) -> None:
        use = self._answered(message)
        data = read_literal(told) if isinstance(told := next(self._data, "{}"), str) else None
        known = data.value if data and isinstance(data.value, dict) else {}
        images = [self._file(part) for part in _parts(message) if part["type"] != "text"]
        text = _joined_text(message)
        if images:
            self._draft.result(use, text, data=known, images=images)
        elif text.startswith(_ERROR):
            self._draft.error(use, text.removeprefix(_ERROR), known)
        else:
            self._draft.result_as_read(use, text, known)

    def _answered(self, message: Raw) -> SkillUse:
        """The call that a result belongs to: by its id, else the first one of its name."""
        id, name, pending = message.get("tool_call_id"), message.get("name"), self._draft.pending
        if id:
            found = next((use for use in pending if use.id == id), None)
        else:
            self._draft.repaired(Repair.CALL_ID_ADDED)
            found = next((use for use in pending if name in (None, use.name)), None)
        if found is None:
            raise Refusal(Reason.BAD_TURN, f"a result of {name or id!r} follows no call of it")
        return found


_KNOWN: dict[str, tuple[Raw, SkillSpec]] = {}
_MOST_KNOWN = 4096


def read_tools(tools: Sequence[Any], draft: Draft) -> list[SkillSpec]:
    """The specs in a list of tools. Raises `Refusal`."""
    specs = []
    for tool in tools:
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict):
            raise Refusal(Reason.BAD_TOOL, f"{tool!r:.80} is no tool")
        draft.leave_out(f"tools.{name}" for name in function if name not in _TOOL_FIELDS)
        specs.append(_spec(str(function.get("name")), tool))
    return specs


def _spec(name: str, tool: Raw) -> SkillSpec:
    """The spec of a tool; the one that was read last under its name, where that was the same."""
    known = _KNOWN.get(name)
    if known and known[0] == tool:
        return known[1]
    try:
        spec = SkillSpec.from_tool(tool)
    except ValidationError as error:
        raise Refusal(Reason.BAD_TOOL, f"{name!r}: {describe_validation(error)}") from error
    if len(_KNOWN) >= _MOST_KNOWN:
        _KNOWN.clear()
    _KNOWN[name] = (tool, spec)
    return spec


def _tools(raw: Raw) -> list[Any]:
    """A list of tools, which may be JSON text, as TRL takes it."""
    tools = raw.get("tools")
    if isinstance(tools, str) and tools:
        literal = read_literal(tools.strip())
        tools = literal.value if literal else tools
    if tools is not None and not isinstance(tools, list):
        raise Refusal(Reason.BAD_TOOL, f"the tools {tools!r:.80} are no list")
    return tools or []


def _files(raw: Raw) -> list[str]:
    """The names of the images. Raises `Refusal`."""
    single = raw.get("image")
    names: list[str] = []
    for image in raw.get("images") or ([single] if single else []):
        name = image.get("path") if isinstance(image, dict) else image
        if not isinstance(name, str):
            raise Refusal(Reason.NOT_THIS_FORMAT, f"an image has no name: {image!r:.80}")
        names.append(name)
    return names


def _list(raw: Raw, name: str) -> list[Any]:
    value = raw.get(name)
    return value if isinstance(value, list) else []


def _parts(message: Raw) -> list[Raw]:
    """The parts of a message: texts, and images whatever their kind. Raises `Refusal`."""
    content = message.get("content")
    if content is None:
        return []
    if not isinstance(content, list):
        return [{"type": "text", "text": _told(content)}]
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            continue
        if kind not in ("image", "image_url"):
            raise Refusal(Reason.BAD_TURN, f"a message has a part that is unknown: {part!r:.80}")
    return content


def _told(content: Any) -> str:
    """A text; what a tool gave as an object becomes JSON."""
    if isinstance(content, dict):
        return json.dumps(content, ensure_ascii=False)
    return plain_text(content)[0]


def _joined_text(message: Raw) -> str:
    return "\n".join(part["text"] for part in _parts(message) if part["type"] == "text")


def _text_of(message: Raw) -> str:
    content = message.get("content")
    return content if isinstance(content, str) and message.get("role") == "user" else ""


def _has_image_part(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return any(isinstance(part, dict) and part.get("type") != "text" for part in parts)


def _mask(mask: Any) -> Mask:
    try:
        return Mask.model_validate(mask)
    except ValidationError as error:
        raise Refusal(Reason.NOT_THIS_FORMAT, describe_validation(error)) from error
