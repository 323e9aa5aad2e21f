"""Records that stop short, and records that are too long."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...model.conversation import AssistantMessage, SkillMessage
from .findings import Case, Check, Problem
from .images import Pictures

if TYPE_CHECKING:
    from ..sequences import Sequences

__all__ = ["ShortEnough", "answered"]


def answered(case: Case) -> Iterator[Problem]:
    """Every call has its result, every reply says something, and the last word is a reply."""
    pending: dict[str, str] = {}
    for message in case.record.messages:
        if isinstance(message, AssistantMessage):
            pending = {use.id: use.name for use in message.skill_uses}
            if not message.skill_uses and not message.text.strip():
                yield Problem(Check.EMPTY_ANSWER, "a reply has neither words nor calls")
        elif isinstance(message, SkillMessage):
            pending.pop(message.result.id, None)
    if pending:
        names = ", ".join(map(repr, pending.values()))
        yield Problem(Check.MISSING_RESULT, f"no result follows the call of {names}")
    elif not isinstance(case.record.messages[-1], AssistantMessage):
        yield Problem(Check.NO_ANSWER, "no answer follows the last result")


class ShortEnough:
    """The training sequence of a record has no more than `longest` tokens."""

    def __init__(self, sequences: Sequences, longest: int, pictures: Pictures) -> None:
        self._sequences = sequences
        self._longest = longest
        self._pictures = pictures

    def __call__(self, case: Case) -> Iterator[Problem]:
        sizes = {
            handle: size
            for handle, file in case.record.images.items()
            if (size := self._pictures.size(file))
        }
        tokens = len(self._sequences.of(case.record, sizes).ids)
        if tokens > self._longest:
            yield Problem(Check.TOO_LONG, f"{tokens:,} tokens; at most {self._longest:,} are taken")
