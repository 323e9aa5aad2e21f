"""The turns of LLaVA-Plus's conversations as text: thoughts, actions and value; results; places.

OpenThinkIMG, which began as a copy, writes most of them alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ...model.conversation import Marks
from ...model.llava_plus.calls import UnreadableCall
from ...model.llava_plus.literals import read_literal
from ...model.llava_plus.turns import EMOJI_KEYS, Action, read_actions, read_turn
from .imported import Reason, Refusal, Repair

__all__ = [
    "IMAGE",
    "Reply",
    "Result",
    "plain_text",
    "read_calls",
    "read_reply",
    "read_request",
    "read_results",
    "refusing",
    "without_images",
]

IMAGE = "<image>"

_KEYS = dict(zip(("thoughts", "actions", "value"), EMOJI_KEYS, strict=True))
_IMAGES = re.compile(rf"^(?:{IMAGE}\n)+|(?:\n{IMAGE})+\Z|{IMAGE}")
_OUTPUTS = re.compile(r"\s*(?:OBSERVATION:\s*)?(?P<tool>[\w+.-]+) (?:model )?outputs?:\s*")
_CLOSING = re.compile(
    r"\s*(?:please )?(?:summarize the model outputs and )?answer my first (?:question|answer)"
    r"(?:: ?|\.?\s*$)",
    re.IGNORECASE,
)
_PLACES = re.compile(
    r"\n(?:The )?input (?P<kind>box|point)(?:e?s are)?: *(?P<places>\[[-\d., \[\]]*\])\Z",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Reply:
    """What the assistant wrote, and how it had to be read."""

    thoughts: str
    actions: tuple[Action, ...]
    value: str
    repairs: tuple[Repair, ...] = ()


@dataclass(frozen=True)
class Result:
    """What stands behind `NAME model outputs:`; `values` is None where it is no object."""

    tool: str
    text: str
    values: Mapping[str, Any] | None
    is_python: bool = False


@contextmanager
def refusing() -> Iterator[None]:
    """A call that cannot be read is a `Refusal` of the same kind."""
    try:
        yield
    except UnreadableCall as problem:
        raise Refusal(Reason(problem.problem), str(problem)) from problem


def plain_text(value: Any) -> tuple[str, tuple[Repair, ...]]:
    """A text that may be a number. Raises `Refusal` for anything else."""
    if isinstance(value, str):
        return value, ()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value), (Repair.NUMBER_AS_TEXT,)
    raise Refusal(Reason.BAD_TURN, f"where a turn's text should be stands {value!r:.80}")


def read_reply(turn: Mapping[str, Any]) -> Reply:
    """The parts of an assistant's turn, whichever way it was written.

    Raises `Refusal`, and `UnreadableCall` for its actions.
    """
    given = {name: turn.get(name, turn.get(key)) for name, key in _KEYS.items()}
    repairs = [Repair.EMOJI_KEYS] if any(key in turn for key in EMOJI_KEYS) else []
    value, made_text = plain_text("" if given["value"] is None else given["value"])
    repairs += made_text
    if given["thoughts"] is None and given["actions"] is None and (parts := read_turn(value)):
        given, value = {**parts}, parts["value"]
        repairs.append(Repair.TURN_FROM_TEXT)
    thoughts, made_text = plain_text(given["thoughts"] or "")
    actions, more = read_calls(given["actions"])
    return Reply(thoughts, actions, value, (*repairs, *made_text, *more))


def read_calls(actions: Any) -> tuple[tuple[Action, ...], tuple[Repair, ...]]:
    """The calls of a turn, and what it took to read them. Raises `UnreadableCall`."""
    read = read_actions(actions)
    loose = [Repair.PARAMETERS_AS_TEXT for action in read.calls if action.loose]
    return read.calls, (*([Repair.PYTHON_REPR] * read.is_python), *loose)


def without_images(text: str) -> tuple[str, int]:
    """A text without its `<image>`s, and how many there were."""
    return _IMAGES.sub("", text), text.count(IMAGE)


def read_request(text: str, image: str | None) -> tuple[str, Marks | None]:
    """A request without the places at its end, and these as marks in `image`."""
    rest, line_break, line = text.rpartition("\n")
    if line_break and (own := Marks.read(line)):
        return rest, own
    boxes: list[Any] = []
    points: list[Any] = []
    rest = text
    while image and (found := _PLACES.search(rest)):
        literal = read_literal(found["places"])
        places = literal.value if literal else []
        kept = boxes if found["kind"].lower() == "box" else points
        kept[:0] = places if places and isinstance(places[0], list) else [places]
        rest = rest[: found.start()]
    if not image or not (boxes or points):
        return text, None
    try:
        return rest, Marks(image=image, boxes=tuple(boxes), points=tuple(points))
    except ValidationError:  # they are no places in an image, and so stay words
        return text, None


def read_results(text: str) -> tuple[list[Result], str]:
    """The results in a turn that follows calls, and the request that is repeated behind them."""
    results: list[Result] = []
    while begin := _OUTPUTS.match(text):
        literal = read_literal(text, begin.end())
        if literal and isinstance(literal.value, dict):
            told, text = text[begin.end() : literal.end], text[literal.end :]
            results.append(Result(begin["tool"], told, literal.value, literal.is_python))
            continue
        closing = _CLOSING.search(text, begin.end())
        end = closing.start() if closing else len(text)
        results.append(Result(begin["tool"], text[begin.end() : end].strip(), None))
        text = text[end:]
    if results and (closing := _CLOSING.match(text)):
        text = text[closing.end() :]
    return results, text.strip() if results else text
