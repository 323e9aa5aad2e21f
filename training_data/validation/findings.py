"""What checks say about a record, and the names under which they say it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from ...model.record import Record
from ..records.imported import Reason, Repair

__all__ = ["Case", "Check", "Problem", "RecordCheck", "is_warning"]


class Check(StrEnum):
    """What can be found in a record that can be read; what cannot has the name of its `Reason`."""

    BROKEN_TEXT = "broken-text"
    """Half of a character; nothing else is then looked for."""
    UNKNOWN_SKILL = "unknown-skill"
    """A call of a skill that is not on offer."""
    BAD_ARGUMENTS = "bad-arguments"
    """Arguments that do not fit the skill's spec."""
    BAD_SPEC = "bad-spec"
    """A spec whose parameters are no JSON schema."""
    UNKNOWN_HANDLE = "unknown-handle"
    """An image or a mask is named that is not there yet."""
    BAD_BOX = "bad-box"
    """A box that is empty or leads out of its image."""
    WRONG_COUNT = "wrong-count"
    """An answer that tells another number than the result which it follows."""
    QUOTE_NOT_READ = "quote-not-read"
    """An answer that quotes as read what no result holds."""
    MISSING_RESULT = Reason.MISSING_RESULT
    """A call without a result."""
    EMPTY_ANSWER = "empty-answer"
    """A reply without words and without calls."""
    NO_ANSWER = "no-answer"
    """A last request, or a last result, that no answer follows."""
    TOO_LONG = "too-long"
    """More tokens than a model is to be trained on."""
    DUPLICATE = "duplicate"
    """The words, the images and the skills on offer of an earlier record."""
    LEAKED_CONVERSATION = "leaked-conversation"
    """The words of a record of another split."""
    LEAKED_IMAGE = "leaked-image"
    """The request and the images of a record of another split."""
    NEAR_REQUEST = "near-request"
    """Nearly the words of a request of another split."""
    IMAGE_NOT_FOUND = Reason.IMAGE_NOT_FOUND
    """An image whose file is not there."""
    IMAGE_UNREADABLE = Reason.IMAGE_UNREADABLE
    """A file that cannot be decoded, or is larger than is taken."""
    IMAGE_FORMAT = "image-format"
    """A file that is not in the format of its name."""


_WARNINGS = frozenset([Check.NEAR_REQUEST, Check.IMAGE_FORMAT, *Repair])


def is_warning(check: str) -> bool:
    """Whether a record with this finding can be trained on as it is."""
    return check in _WARNINGS


class Problem(NamedTuple):
    """One finding: the name of the check, and what is wrong."""

    check: str
    message: str


@dataclass(frozen=True)
class Case:
    """A record with its place in the file, from 1: of JSON lines, the line."""

    place: int
    record: Record


RecordCheck = Callable[[Case], Iterator[Problem]]
"""What is wrong with one record, in the light of those before it."""
