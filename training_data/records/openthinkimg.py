"""OpenThinkIMG (Su et al. 2025): chart questions solved step by step with tools.

Turns are `conversations` or `messages`; the assistant's are JSON, `{"thought", "actions"}`, or
LLaVA-Plus's text; `OBSERVATION:` opens the result of a call, and the call `Terminate` holds the
answer. Tools that do just what one of our skills does become its calls (`docs/bridge.md`); the
others keep their names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...model.llava_plus.calls import known_spec
from ...model.llava_plus.literals import read_literal
from ...model.llava_plus.responses import Finding
from ...model.llava_plus.turns import Action
from ...skills import wording
from ...skills.calls import SkillSpec, SkillUse
from ...skills.geometry import Position
from ...skills.skill import HANDLE_PATTERNS
from .draft import Draft, NamedCall
from .imported import Imported, Raw, Reason, Refusal, Repair
from .llava_plus_turns import (
    IMAGE,
    Reply,
    Result,
    plain_text,
    read_calls,
    read_reply,
    read_results,
    refusing,
    without_images,
)

__all__ = ["is_openthinkimg", "read"]

_READ = "id unique_id conversations messages images image system".split()
_HUMAN = ("human", "user")
_GPT = ("gpt", "assistant")
_STOP = "<stop>"
_QUESTION = "\n\nQuestion: "
_INSTRUCTIONS = "You are a visual assistant"
_GENERATED = re.compile(r"\n?Generated image: img_\d+")
_POINT = re.compile(r'x\d*="([\d.]+)" y\d*="([\d.]+)"')
_ALT = re.compile(r'alt="([^"]*)"')

_SKILLS = ("ocr", "point", "draw")
_OWN_TOOLS = {
    "grounding": "Find the things that `param` names; tells their boxes and draws them.",
    "ZoomInSubfigure": "Cut out the part of a figure that `param` describes.",
    "SegmentRegionAroundPoint": "Mark the region around the points in `param`, in percent.",
    "crop": "Cut out the box in `param`, in pixels.",
    "drawline": "Draw a line between two corners of the box in `param`, in pixels.",
}
_AXES = {"DrawHorizontalLineByY": "y", "DrawVerticalLineByX": "x"}


def is_openthinkimg(raw: Raw) -> bool:
    """Whether its replies are JSON with actions, or LLaVA-Plus's text in messages with roles."""
    turns = raw.get("conversations") or raw.get("messages")
    if not isinstance(turns, list):
        return False
    texts = [str(t.get("value", t.get("content"))) for t in turns if isinstance(t, dict)]
    written = any('"actions"' in text and '"thought' in text for text in texts)
    return written or ("messages" in raw and any("actions🚀" in text for text in texts))


def read(raw: Raw) -> Imported:
    """A record of OpenThinkIMG. Raises `Refusal`."""
    with refusing():
        return _Reading(raw).imported()


class _Reading:
    """One record, turn by turn."""

    def __init__(self, raw: Raw) -> None:
        turns = raw.get("conversations") or raw.get("messages")
        if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
            raise Refusal(Reason.NOT_THIS_FORMAT, "it has no list of turns, `conversations`")
        self._turns: list[Raw] = turns
        self._draft = Draft(str(raw.get("id", raw.get("unique_id", ""))), "openthinkimg")
        self._draft.leave_out(name for name in raw if name not in _READ)
        images = raw.get("images") or raw.get("image") or []
        self._images: list[str] = [images] if isinstance(images, str) else list(images)
        self._waiting: Action | None = None

    def imported(self) -> Imported:
        """All of it. Raises `Refusal`."""
        for turn in self._turns:
            speaker = turn.get("from", turn.get("role"))
            if speaker in _HUMAN:
                self._hear(_said(turn))
            elif speaker in _GPT:
                self._reply(_said(turn))
            elif speaker == "system":
                self._draft.repaired(Repair.INSTRUCTIONS_LEFT_OUT)
            else:
                raise Refusal(Reason.BAD_TURN, f"nobody known speaks: {speaker!r}")
        self._draft.leave_out(["images"] * bool(self._images))
        skills = [known_spec(name) for name in _SKILLS]
        return self._draft.finished([*skills, *(_spec(name) for name in _OWN_TOOLS)])

    def _hear(self, text: str) -> None:
        text, tokens = without_images(text)
        files: list[str | None] = [self._next_image() for _ in range(tokens)]
        if self._waiting:
            self._hear_result(self._waiting, text, files)
            return
        instructions, found, question = text.rpartition(_QUESTION)
        if found and _INSTRUCTIONS in instructions:
            self._draft.repaired(Repair.INSTRUCTIONS_LEFT_OUT)
            text = question
        if self._images and not files and not self._draft.messages:
            self._draft.repaired(Repair.IMAGE_ADDED)
            files = [self._next_image()]
        self._draft.ask(text.strip(), files)

    def _next_image(self) -> str:
        if not self._images:
            raise Refusal(Reason.IMAGE_NOT_GIVEN, f"it says {IMAGE} more often than it names one")
        return self._images.pop(0)

    def _reply(self, text: str) -> None:
        reply = _read_json(text) or read_reply({"value": text})
        self._draft.repaired(*reply.repairs)
        ended = next((action for action in reply.actions if action.api == "Terminate"), None)
        calls = [action for action in reply.actions if action is not ended]
        if len(calls) > 1 or (ended and calls):
            raise Refusal(Reason.BAD_CALL, "it makes several calls at once")
        value = reply.value
        if ended:
            value = str(ended.params.get("ans", ended.params.get("answer", "")))
        if _STOP in value:
            self._draft.repaired(Repair.STOP_LEFT_OUT)
            value = value.replace(_STOP, "")
        self._draft.reply(value.strip(), reply.thoughts, [self._call(call) for call in calls])
        self._waiting = calls[0] if self._draft.pending else None

    def _call(self, action: Action) -> NamedCall:
        """A call of a skill where one does the same, else of their own tool."""
        params = dict(action.params)
        image = params.pop("image", None)
        if not (isinstance(image, str) and re.match(HANDLE_PATTERNS["image"], image)):
            image = self._draft.first_image
        if image is None:
            raise Refusal(Reason.IMAGE_NOT_GIVEN, f"{action.api} is called, and there is no image")
        if call := _as_skill(action.api, str(params.get("param", "")), image):
            return call
        if action.api not in _OWN_TOOLS:
            raise Refusal(Reason.UNKNOWN_TOOL, f"{action.api!r} is none of its tools")
        return action.api, {"image": image, **params}

    def _hear_result(self, action: Action, text: str, files: Sequence[str | None]) -> None:
        self._waiting = None
        results, _ = read_results(text)
        if len(results) != 1:
            self._draft.repaired(Repair.RESULT_AS_TEXT)
            results = [Result(action.api, text.strip(), None)]
        use = self._draft.pending[0]
        told, generated = _GENERATED.subn("", results[0].text)
        finding = _as_found(use, action, told)
        if finding is None and use.name not in _OWN_TOOLS:
            self._draft.repaired(Repair.RESULT_AS_TEXT)
        finding = finding or Finding(told)
        images = files or [None] * max(generated, finding.images)
        self._draft.result(use, finding.text, data=finding.data, images=images)


def _said(turn: Raw) -> str:
    return plain_text(turn.get("value", turn.get("content")))[0]


def _read_json(text: str) -> Reply | None:
    """A reply that is a JSON object; one without a call answers with what it thinks."""
    literal = read_literal(text.strip())
    if literal is None or not isinstance(literal.value, dict) or "actions" not in literal.value:
        return None
    thought = str(literal.value.get("thought", literal.value.get("thoughts")) or "")
    actions, repairs = read_calls(literal.value["actions"])
    if literal.is_python:
        repairs = (Repair.PYTHON_REPR, *repairs)
    return Reply(thought, actions, "", repairs) if actions else Reply("", (), thought, repairs)


def _as_skill(tool: str, param: str, image: str) -> NamedCall | None:
    match tool:
        case "OCR" | "ocr":
            return "ocr", {"image": image}
        case "Point" | "point":
            return "point", {"labels": [param], "image": image}
        case "DrawHorizontalLineByY" | "DrawVerticalLineByX":
            places = re.findall(rf'\b{_AXES[tool]}\d*\s*=\s*\\?"?\s*(\d+(?:\.\d+)?)', param)
            at = [round(float(place) / 100, 4) for place in places]
            if not at or max(at) > 1:
                raise Refusal(
                    Reason.BAD_CALL, f"{tool} is called with {param!r}, which is no place"
                )
            lines = [[0, y, 1, y] if _AXES[tool] == "y" else [y, 0, y, 1] for y in at]
            return "draw", {"image": image, "lines": lines}
    return None


def _as_found(use: SkillUse, action: Action, told: str) -> Finding | None:
    """A result in the words of the skill, or None when it is in another form."""
    match use.name:
        case "ocr":
            literal = read_literal(told)
            if literal and isinstance(literal.value, list):
                texts = [str(text) for text in literal.value]
                return Finding(wording.ocr_text(texts), {"lines": [{"text": t} for t in texts]})
        case "point":
            found = [(float(x) / 100, float(y) / 100) for x, y in _POINT.findall(told)]
            alt = _ALT.search(told)
            label = alt[1] if alt else str(action.params.get("param", ""))
            points = [(label, Position(round(x, 3), round(y, 3))) for x, y in found]
            data = {"points": [{"label": name, "point": list(at)} for name, at in points]}
            if points:
                return Finding(wording.points_text(points, use.arguments["labels"]), data)
        case "draw" if told.startswith("Line drawn"):
            return Finding(
                f"Drew {wording.counted(len(use.arguments['lines']), 'line')}.", images=1
            )
    return None


def _spec(tool: str) -> SkillSpec:
    properties: Mapping[str, Any] = {
        "image": {"type": "string", "pattern": HANDLE_PATTERNS["image"]},
        "param": {"type": "string"},
    }
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return SkillSpec(name=tool, description=_OWN_TOOLS[tool], parameters=schema)
