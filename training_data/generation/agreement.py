"""Whether calls and answers keep to what has been said and found."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from ...model.conversation import Conversation
from ...model.record import Record
from ..validation.faithfulness import faithful
from ..validation.findings import Case
from ..validation.handles import handles_known
from .outcome import Reason, Unfit

__all__ = ["check_answer", "check_places"]

_LIST = re.compile(r"\[\s*-?\d[\d.\s,eE+-]*\]")
_PLAIN_PARTS = {0, 0.25, 0.33, 0.34, 0.5, 0.66, 0.67, 0.75, 1}
"""Halves, thirds and quarters: where `the left half` is needs no finding."""


def check_places(value: Any, told: Iterable[str]) -> None:
    """Raises `Unfit` for a box or point in a JSON value that is in none of the texts.

    A model that learned to write it would learn to make places up.
    """
    known = set(_places_in(told))
    for place in _places_of(value):
        if place not in known and not set(place) <= _PLAIN_PARTS:
            raise Unfit(
                f"{list(place)} is neither in the request nor in a result: "
                "a place has to be found before it can be used",
                Reason.BAD_CALL,
            )


def check_answer(answered: Conversation, told: Iterable[str]) -> None:
    """Raises `Unfit` when the answer that ends a conversation contradicts its results.

    Counts, quotations and handles are held against them as `llava-plus data validate` does, and
    boxes and points against what was `told`.
    """
    case = Case(1, Record.of(answered, {}))
    for problem in chain(faithful(case), handles_known(case)):
        raise Unfit(problem.message, Reason.CONTRADICTS_RESULT)
    known = set(_places_in(told))
    for place in _places_in([answered.answer or ""]):
        if place not in known:
            raise Unfit(f"{list(place)} is in no result", Reason.CONTRADICTS_RESULT)


def _places_in(texts: Iterable[str]) -> Iterator[tuple[float, ...]]:
    for text in texts:
        for found in _LIST.findall(text):
            try:
                yield from _places_of(json.loads(found))
            except ValueError:  # numbers in brackets that are no list, such as [1-2]
                continue


def _places_of(value: Any) -> Iterator[tuple[float, ...]]:
    """The lists of two or four numbers in a JSON value, at any depth."""
    if isinstance(value, dict):
        for part in value.values():
            yield from _places_of(part)
    elif isinstance(value, list):
        if len(value) in (2, 4) and all(type(part) in (int, float) for part in value):
            yield tuple(value)
        else:
            for part in value:
                yield from _places_of(part)
