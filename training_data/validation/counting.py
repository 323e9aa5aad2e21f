"""Numbers of things, as findings state them and answers tell them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ...skills.wording import singular

__all__ = ["Count", "counts_found", "counts_told", "mentioned"]

_WORDS = (
    "no one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
).split()
_NUMBERS = {word: number for number, word in enumerate(_WORDS)} | {"zero": 0}
_NUMBER = rf"\d{{1,4}}|{'|'.join(_NUMBERS)}"

_FOUND = re.compile(r"(?:Found|Outlined) (.+?)[.:](?:\s|$)")
_SENTENCE = re.compile(r"[.;:!?](?:\s+|$)|\n+")
_OPENING = re.compile(
    r"(?:^|\b(?:there (?:is|are|were|was)|found|see|counted|detected|identified|spotted|outlined"
    r"|located)\s+)(?:a total of |exactly |only |just |all )?",
    re.IGNORECASE,
)
_PART = re.compile(rf"(?:but )?({_NUMBER}) (.+)", re.IGNORECASE)
_CLOSING = re.compile(
    r"\s+(?:in total|in (?:the|this|your) (?:image|picture|photo)"
    r"|(?:was|were) (?:found|detected))$",
    re.IGNORECASE,
)
_OPEN = re.compile(
    r"\b(?:not|never|no longer|if|would|could|may|might|or|perhaps|maybe|other|more)\b|n't\b"
    r"|[\"“?]",
    re.IGNORECASE,
)
"""What makes a sentence say something else than a number that is so."""


_BEFORE = re.compile(rf"(?<![\w.,])({_NUMBER})\s+(?=(\S.{{0,80}}))", re.IGNORECASE)
"""A number, and what follows it, where the next number may stand."""


class Count(NamedTuple):
    """So many of a thing, whose name is in the singular and without case."""

    number: int
    thing: str


def counts_found(text: str) -> list[Count]:
    """What a finding counts in its summary: `Found 2 dogs and no cat.`; empty where it does not."""
    found = _FOUND.match(text)
    parts = re.split(r",? and (?=\d|no )|, (?=\d|no )", found[1]) if found else []
    counts = [count for part in parts if (count := _count(part, digits=True))]
    return counts if len(counts) == len(parts) else []


def counts_told(answer: str) -> Iterator[Count]:
    """What an answer says that there is, where it can mean nothing else.

    Read are lists of numbers with things behind `there are`, `I found` and the like, up to a part
    that says more; one that is joined to such a part by `and` shares what it says.
    """
    for sentence in _SENTENCE.split(answer):
        if _OPEN.search(sentence):
            continue
        openings = [match.end() for match in _OPENING.finditer(sentence)]
        yield from _listed(sentence[max(openings, default=0) :])


def _listed(rest: str) -> Iterator[Count]:
    for clause in re.split(r",\s+", rest.strip()):
        told = _CLOSING.sub("", clause).removeprefix("and ")
        parts = [_count(part) for part in re.split(r"\s+and\s+", told)]
        if not all(parts):
            return
        yield from (part for part in parts if part)


def mentioned(texts: Iterable[str], thing: str) -> set[int]:
    """The numbers that stand directly before a thing anywhere in the texts."""
    found = set()
    for text in texts:
        for number, word in _BEFORE.findall(text):
            if singular(_words(word, len(thing.split()))) == thing:
                found.add(_value(number))
    return found


def _words(text: str, count: int) -> str:
    return " ".join(re.sub(r"[.,;:!?)]+(?=\s|$)", "", text.casefold()).split()[:count])


def _count(part: str, *, digits: bool = False) -> Count | None:
    found = _PART.fullmatch(part.strip().rstrip("."))
    if not found or (digits and not (found[1].isdigit() or found[1] == "no")):
        return None
    return Count(_value(found[1]), singular(" ".join(found[2].casefold().split())))


def _value(number: str) -> int:
    return int(number) if number.isdigit() else _NUMBERS[number.lower()]
