"""What is read off a file of records: a value, or what stands where one should."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Found", "Told", "Unreadable"]

Told = Callable[[int], None]
"""Is given the number of bytes that have been read so far."""


@dataclass(frozen=True)
class Found:
    """A value with its place in the file, from 1; `key` is its number in an object of records."""

    place: int
    value: Any
    key: str = ""


@dataclass(frozen=True)
class Unreadable:
    """A line that is no JSON, with what is wrong with it."""

    place: int
    text: str
    problem: str
