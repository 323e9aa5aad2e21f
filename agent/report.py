"""What a turn looks like to a person at a terminal, and as JSON to a program."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..model.conversation import Conversation
from ..skills.calls import SkillResult, SkillUse
from ..skills.errors import LlavaPlusError
from .loop import Step

__all__ = ["call_text", "error_object", "plain", "result_text", "turn_object"]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What could move a terminal's cursor, colour it, or turn text around."""

_LINES, _WIDTH = 6, 160


def plain(text: str) -> str:
    """Text of a model or of an image, made safe to show in a terminal."""
    return _CONTROL.sub("\ufffd", text)


def call_text(use: SkillUse) -> str:
    """A call the way a programmer would write it."""
    pairs = (f"{name}={_json(value)}" for name, value in use.arguments.items())
    return plain(f"{use.name}({', '.join(pairs)})")


def result_text(result: SkillResult) -> str:
    """A result in short: its first lines, cut to what fits on a screen."""
    if result.error:
        return plain(f"{result.error.kind}: {result.error.message}")
    lines = [line if len(line) <= _WIDTH else f"{line[:_WIDTH]}…" for line in _lines(result.text)]
    if len(lines) > _LINES:
        lines[_LINES:] = [f"… and {len(lines) - _LINES} more lines"]
    return plain("\n".join(lines))


def turn_object(
    conversation: Conversation,
    *,
    images: dict[str, str],
    steps: Sequence[Step],
    seconds: float,
) -> dict[str, Any]:
    """The object that `--json` prints of one turn; `images` are handles to files."""
    return {
        "messages": conversation.chat_messages(),
        "tools": conversation.tools(),
        "images": images,
        "answer": conversation.answer,
        "timings": {"seconds": round(seconds, 3), "steps": [_step_object(step) for step in steps]},
    }


def error_object(error: LlavaPlusError) -> dict[str, Any]:
    """`{"error": {"kind": ..., "message": ...}}`, as everywhere in this project."""
    return {"error": {"kind": error.kind, "message": str(error)}}


def _step_object(step: Step) -> dict[str, Any]:
    usage = {name: _rounded(value) for name, value in asdict(step.usage).items()}
    skills = {id_: round(seconds, 4) for id_, seconds in step.skill_seconds.items()}
    return {**usage, "skill_seconds": skills}


def _rounded(value: float) -> float:
    return round(value, 4) if isinstance(value, float) else value


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _lines(text: str) -> list[str]:
    return text.strip().splitlines() or ["(nothing)"]
