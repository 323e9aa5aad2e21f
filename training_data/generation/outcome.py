"""What becomes of one job: a record, or a refusal with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ...model.record import Record
from ...skills.errors import BadReply

__all__ = ["GivenUp", "Outcome", "Reason", "Refused", "Unfit"]


class Reason(StrEnum):
    """Why there is no record."""

    BAD_ITEM = "bad-item"
    """A line of the input is no image with captions, boxes or tags."""
    BAD_IMAGE = "bad-image"
    """The image is not there, or cannot be read."""
    NO_REQUEST = "no-request"
    """The labeler found that the image gives no reason to ask for these skills."""
    BAD_REPLY = "bad-reply"
    """A reply was not in the form that was asked for."""
    BAD_CALL = "bad-call"
    """A call did not fit the skill's spec, the request, or the handles at hand."""
    SKILL_FAILED = "skill-failed"
    """The skill ran and could not do its work."""
    SKILL_TOO_SLOW = "skill-too-slow"
    """The skill was not done in time."""
    CONTRADICTS_RESULT = "contradicts-result"
    """An answer said something else than the results that it was to be written from."""


class Unfit(BadReply):
    """A reply of the labeler that cannot be used; it is told the message and asked again."""

    def __init__(self, message: str, reason: Reason = Reason.BAD_REPLY) -> None:
        super().__init__(message)
        self.reason = reason


class GivenUp(BadReply):
    """There will be no record; `said` is the last that the labeler said."""

    def __init__(self, reason: Reason, message: str, said: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.said = said


@dataclass(frozen=True)
class Refused:
    """A job without a record; `kind` is empty for a line that is no item."""

    id: str
    kind: str
    reason: Reason
    because: str
    said: str = ""

    def to_json(self) -> dict[str, Any]:
        """The line of the file of refusals."""
        said = {"said": self.said} if self.said else {}
        told = {"id": self.id, "kind": self.kind, "refused": str(self.reason)}
        return {**told, "because": self.because, **said}


Outcome = Record | Refused
