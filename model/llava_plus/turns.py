"""LLaVA-Plus's turns as text: thoughts, actions and value, and the places behind a request."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..conversation import Marks
from .calls import Problem, UnreadableCall
from .literals import read_literal

__all__ = ["EMOJI_KEYS", "Action", "Actions", "places_text", "read_actions", "read_turn"]

EMOJI_KEYS = ("thoughts🤔", "actions🚀", "value👉")
_WRITTEN = (
    re.compile(
        r'\s*(?:"?thoughts🤔"?(?P<thoughts>.*?))?(?:"?actions🚀"?(?P<actions>.*?))?'
        r'"?value👉"?(?P<value>.*)',
        re.DOTALL,
    ),
    re.compile(
        r"\s*<thoughts>:?(?P<thoughts>.*?)(?:</thoughts>)?\s*<actions>:?(?P<actions>.*?)"
        r"(?:</actions>)?\s*<values?>:?(?P<value>.*?)(?:</values?>)?\s*",
        re.DOTALL,
    ),
)


@dataclass(frozen=True)
class Action:
    """A call as it stands there; `loose` is whether its parameters were a text, or none at all."""

    api: str
    params: Mapping[str, Any]
    loose: bool = False


@dataclass(frozen=True)
class Actions:
    """The calls of a turn, and whether they were written as Python writes them."""

    calls: tuple[Action, ...] = ()
    is_python: bool = False


def read_turn(text: str) -> dict[str, str] | None:
    """Thoughts, actions and value of a turn that is one text, or None when it is another one."""
    for form in _WRITTEN:
        if found := form.fullmatch(text):
            return {name: (part or "").strip() for name, part in found.groupdict().items()}
    return None


def read_actions(actions: Any) -> Actions:
    """A list of calls, or its text; names and parameters have several keys.

    Raises `UnreadableCall`.
    """
    is_python = False
    if isinstance(actions, str) and actions.strip():
        literal = read_literal(actions, len(actions) - len(actions.lstrip()))
        if literal is None:
            problem = f"the actions cannot be read: {actions!r:.80}"
            raise UnreadableCall(Problem.BAD_CALL, problem)
        actions, is_python = literal.value, literal.is_python
    listed = [actions] if isinstance(actions, dict) else actions or ()
    if not isinstance(listed, list | tuple):
        raise UnreadableCall(Problem.BAD_CALL, f"the actions are no list: {actions!r:.80}")
    return Actions(tuple(map(_action, listed)), is_python)


def _action(action: Any) -> Action:
    if not isinstance(action, dict):
        raise UnreadableCall(Problem.BAD_CALL, f"{action!r:.80} is no call")
    name = _first(action, "API_name", "api_name", "name")
    params = _first(action, "API_params", "api_params", "arguments", "params")
    if not isinstance(name, str) or not name:
        raise UnreadableCall(Problem.BAD_CALL, f"a call names no API: {action!r:.80}")
    if isinstance(params, dict):
        return Action(name, params)
    if not params:
        return Action(name, {}, loose=True)
    literal = read_literal(params.strip()) if isinstance(params, str) else None
    if literal is None or not isinstance(literal.value, dict):
        problem = f"the parameters of {name} cannot be read: {params!r:.80}"
        raise UnreadableCall(Problem.BAD_CALL, problem)
    return Action(name, literal.value, loose=True)


def _first(values: Mapping[str, Any], *names: str) -> Any:
    return next((values[name] for name in names if name in values), None)


def places_text(marks: Marks) -> str:
    """Marks as lines behind a request: as the web page writes them, where it has words for them."""
    if marks.masks:
        return f"\n{marks.text}"
    lines = ""
    for kind, many, places in (("box", "boxes", marks.boxes), ("point", "points", marks.points)):
        if len(places) == 1:
            lines += f"\nInput {kind}: {json.dumps(places[0])}"
        elif places:
            lines += f"\nThe input {many} are: {json.dumps(places)}"
    return lines
