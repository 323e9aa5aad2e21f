"""Reading what a labeler wrote: in the form that it was asked for, or not at all."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ...skills.geometry import Box, Corners, Point, Position
from .outcome import GivenUp, Reason, Unfit

__all__ = [
    "Answered",
    "Requested",
    "read_answer",
    "read_description",
    "read_pairs",
    "read_request",
]

_LONGEST = 8_000
_LONGEST_REQUEST = 400

_BETWEEN = re.compile(r"^[ \t]*===[ \t]*$", re.MULTILINE)
_BLOCK = re.compile(r"(Question|Answer):\s*(\S.*)", re.DOTALL)
_ANSWER = re.compile(r"(?:Thoughts:\s*(\S.*?)\s*^)?Answer:\s*(\S.*)", re.DOTALL | re.MULTILINE)
_LABEL = re.compile(r"^(?:Thoughts|Answer|Question|Request):", re.MULTILINE)
_SOURCE = re.compile(
    r"\b(?:captions?|bounding box(?:es)?|coordinates"
    r"|(?:given|provided) (?:\w+ )?(?:description|sentence|text|context|information|tag)s?)\b",
    re.IGNORECASE,
)
_BOX: TypeAdapter[Corners] = TypeAdapter(Box)
_POINT: TypeAdapter[Position] = TypeAdapter(Point)


def read_pairs(text: str, *, least: int, most: int) -> list[tuple[str, str]]:
    """Questions with their answers, in blocks with a line `===` between them. Raises `Unfit`."""
    blocks = [block.strip() for block in _BETWEEN.split(_checked(text))]
    if blocks and not blocks[-1]:
        blocks.pop()
    said = []
    for place, block in enumerate(blocks):
        wanted = "Answer" if place % 2 else "Question"
        found = _BLOCK.fullmatch(block)
        if not found or found[1] != wanted or _LABEL.search(found[2]):
            raise Unfit(f"block {place + 1} is not one '{wanted}: ...': {block[:80]!r}")
        said.append(found[2].strip())
    if len(said) % 2:
        raise Unfit("the last question has no answer")
    pairs = list(zip(said[::2], said[1::2], strict=True))
    if not least <= len(pairs) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise Unfit(f"there are {len(pairs)} questions where {wanted} were asked for")
    if len({question for question, _ in pairs}) < len(pairs):
        raise Unfit("a question is there twice")
    return [(_without_source(question), _without_source(answer)) for question, answer in pairs]


def read_description(text: str) -> str:
    """A description without a label before it. Raises `Unfit`."""
    told = _checked(text)
    if found := _LABEL.match(told):
        raise Unfit(f"it begins with {found[0]!r}: write the description alone")
    return _without_source(told)


@dataclass(frozen=True)
class Requested:
    """What a person is to say, and the places in the image that they point at."""

    text: str
    boxes: tuple[Corners, ...] = ()
    points: tuple[Position, ...] = ()


def read_request(text: str) -> Requested:
    """A line `Request: ...`, and behind it lines `Box: [...]` and `Point: [...]`.

    Raises `Unfit`, or `GivenUp` for `No request: ...`.
    """
    first, *rest = [line.strip() for line in _checked(text).splitlines() if line.strip()]
    label, colon, words = first.partition(":")
    words = words.strip()
    if label == "No request" and colon:
        raise GivenUp(Reason.NO_REQUEST, words or "no reason was told", text)
    if label != "Request" or not words:
        raise Unfit(f"the first line is not 'Request: ...': {first[:80]!r}")
    if len(words) > _LONGEST_REQUEST:
        raise Unfit(f"the request has {len(words)} letters; at most {_LONGEST_REQUEST} are taken")
    boxes: list[Corners] = []
    points: list[Position] = []
    for line in rest:
        label, _, value = line.partition(":")
        if label == "Box":
            boxes.append(_place(_BOX, value))
        elif label == "Point":
            points.append(_place(_POINT, value))
        else:
            raise Unfit(f"behind the request stand only 'Box: ...' and 'Point: ...': {line[:80]!r}")
    return Requested(_without_source(words), tuple(boxes), tuple(points))


@dataclass(frozen=True)
class Answered:
    """The words that close a turn, and what was thought before."""

    text: str
    thoughts: str = ""


def read_answer(text: str, *, thoughts: bool) -> Answered:
    """`Answer: ...`, with `Thoughts: ...` before it where they were asked for. Raises `Unfit`."""
    form = "'Thoughts: ...' and then 'Answer: ...'" if thoughts else "'Answer: ...' and no more"
    found = _ANSWER.fullmatch(_checked(text))
    if (
        not found
        or bool(found[1]) != thoughts
        or any(map(_LABEL.search, filter(None, found.groups())))
    ):
        raise Unfit(f"the reply is not {form}: {text[:80]!r}")
    return Answered(found[2].strip(), (found[1] or "").strip())


def _without_source(text: str) -> str:
    """The text itself. Raises `Unfit` when it gives away that its writer has not seen the image."""
    if found := _SOURCE.search(text):
        raise Unfit(f"it speaks of {found[0]!r}: speak as one who sees the image")
    return text


def _checked(text: str) -> str:
    told = text.strip()
    if not told:
        raise Unfit("the reply is empty")
    if len(told) > _LONGEST:
        raise Unfit(f"the reply has {len(told):,} letters; at most {_LONGEST:,} are taken")
    return told


def _place(kind: TypeAdapter[Any], value: str) -> Any:
    try:
        return kind.validate_python(json.loads(value))
    except (ValidationError, ValueError, RecursionError) as error:
        raise Unfit(f"{value.strip()[:80]!r} is no place in the image, in fractions") from error
