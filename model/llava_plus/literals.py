"""Values in texts: JSON, or what Python writes of a dict or a list, parsed and never evaluated."""

from __future__ import annotations

import ast
import json
import re
import warnings
from typing import Any, NamedTuple

__all__ = ["LONGEST", "Literal", "read_literal"]

LONGEST = 1_000_000
"""Characters of a literal that are parsed."""

_TOKEN = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[\[\](){}]""", re.DOTALL)
_DECODER = json.JSONDecoder()


class Literal(NamedTuple):
    """A value, where it ends in its text, and whether it was Python's way of writing it."""

    value: Any
    end: int
    is_python: bool


def read_literal(text: str, at: int = 0) -> Literal | None:
    """The object or array that begins at `at`, or None when none can be read there."""
    try:
        return Literal(*_DECODER.raw_decode(text, at), is_python=False)
    except (ValueError, RecursionError):
        end = _end(text, at)
    if end is None or end - at > LONGEST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # a backslash in somebody's text
            value = _plain(ast.literal_eval(text[at:end]))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return Literal(value, end, is_python=True)


def _end(text: str, at: int) -> int | None:
    """Behind the bracket that closes the one at `at`; brackets within strings do not count."""
    if text[at : at + 1] not in ("{", "["):
        return None
    depth = 0
    for token in _TOKEN.finditer(text, at, at + LONGEST):
        character = token[0]
        depth += (character in ("{", "[", "(")) - (character in ("}", "]", ")"))
        if depth == 0:
            return token.end()
    return None


def _plain(value: Any) -> Any:
    """The value as JSON has it. Raises `ValueError` for what JSON has no word for."""
    match value:
        case dict():
            return {_key(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case str() | bool() | int() | float() | None:
            return value
    raise ValueError(f"{value!r} is nothing that JSON knows")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError(f"the key {key!r} is no text")
    return key
