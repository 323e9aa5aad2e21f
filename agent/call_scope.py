"""What a skill use may name, where its images lie, and how long it has."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..skills.errors import DeadlineExceeded
from ..skills.geometry import Mask
from ..skills.images import ImageRef, ImageStore
from ..skills.progress import Watch
from ..skills.skill import HANDLE_PATTERNS

__all__ = ["CallScope", "named_in"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class CallScope:
    """What a skill use may name, where its images lie, and how long it has.

    `images` and `masks` are the handles that its arguments may name. `store` holds the images'
    bytes, and takes in those of images that the skill makes. `deadline` is a moment of
    `time.monotonic()`. `watch` hears of progress, where the skill reports any, a few times a
    second.
    """

    store: ImageStore
    deadline: float
    images: Mapping[str, ImageRef] = field(default_factory=dict)
    masks: Mapping[str, Mask] = field(default_factory=dict)
    watch: Watch | None = None

    def named(self, arguments: Mapping[str, Any]) -> tuple[dict[str, ImageRef], dict[str, Mask]]:
        """The images and masks whose handles the arguments name."""
        return named_in(arguments, self.images, self.masks)

    def seconds_left(self, name: str) -> float:
        """Time that is left for the skill `name`. Raises `DeadlineExceeded` when there is none."""
        if (seconds := self.deadline - time.monotonic()) <= 0:
            raise DeadlineExceeded(f"no time was left to run {name!r}")
        return seconds


def named_in(
    arguments: Mapping[str, Any], images: Mapping[str, ImageRef], masks: Mapping[str, Mask]
) -> tuple[dict[str, ImageRef], dict[str, Mask]]:
    """The images and masks whose handles the arguments name."""
    strings = _strings(arguments)
    return _chosen(strings, "image", images), _chosen(strings, "mask", masks)


def _chosen(strings: set[str], kind: str, known: Mapping[str, T]) -> dict[str, T]:
    pattern = HANDLE_PATTERNS[kind]
    if any(text not in known and re.fullmatch(pattern, text) for text in strings):
        # A handle that there is not: with all of them, the skill can say which there are.
        return dict(known)
    return {handle: known[handle] for handle in known if handle in strings}


def _strings(value: Any) -> set[str]:
    """Every string in a JSON value; without recursion, for a model may nest without end."""
    found: set[str] = set()
    rest = [value]
    while rest:
        match rest.pop():
            case str() as text:
                found.add(text)
            case list() as items:
                rest.extend(items)
            case dict() as items:
                rest.extend(items.values())
    return found
