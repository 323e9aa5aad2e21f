"""Whether images and masks are there when they are named."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ...model.conversation import AssistantMessage, SkillMessage, UserMessage
from ...skills.demonstration import texts_in
from ...skills.wording import shorten
from .findings import Case, Check, Problem

__all__ = ["handles_known"]

_HANDLE = re.compile(r"(?:img|mask)_[0-9]{1,4}")
_NAMED = re.compile(r"(?<![\w/.-])(?:img|mask)_[0-9]{1,4}(?![\w/-]|\.\w)")


def handles_known(case: Case) -> Iterator[Problem]:
    """Calls and answers name only what came or was made before them.

    What a call of the same reply will make is not there yet. An answer may repeat a name that
    somebody else said.
    """
    there: dict[str, None] = {}
    said: set[str] = set()
    for message in case.record.messages:
        if isinstance(message, AssistantMessage):
            for use in message.skill_uses:
                for text in texts_in(use.arguments):
                    if _HANDLE.fullmatch(text) and text not in there:
                        yield _not_there(f"{use.name} is given", text, there)
            for name in dict.fromkeys(_NAMED.findall(message.text)):
                if name not in there and name not in said:
                    yield _not_there("a reply names", name, there)
            continue
        words = message.words if isinstance(message, UserMessage) else message.text
        said.update(_NAMED.findall(words))
        there |= dict.fromkeys(message.images)
        if isinstance(message, SkillMessage):
            there |= dict.fromkeys(message.masks)
        elif message.marks:
            there |= dict.fromkeys(message.marks.masks)


def _not_there(who: str, name: str, there: dict[str, None]) -> Problem:
    known = shorten(", ".join(there) or "nothing", 200)
    return Problem(Check.UNKNOWN_HANDLE, f"{who} {name}, which is not there yet; there is: {known}")
