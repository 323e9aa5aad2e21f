"""Carrying out a plan: what a step needs from those before it, and which results are told."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from ..model.conversation import Conversation, SkillMessage
from .bank import Step
from .outcomes import TELLING

__all__ = ["boxes_found", "goes_on", "only_serves"]

_MADE_BY = {"$boxes": "detect", "$mask": "segment"}


def only_serves(step: Step, result: SkillMessage, later: Sequence[Step]) -> bool:
    """Whether a result is only for a later step, so that the answer does not tell it."""
    if result.result.error or not later:
        return False
    if step.skill in _MADE_BY.values():
        wanted = {value for following in later for value in following.arguments.values()}
        return any(_MADE_BY.get(value) == step.skill for value in wanted)
    return step.skill not in TELLING


def goes_on(
    results: Sequence[tuple[Step, SkillMessage]], later: Sequence[Step], conversation: Conversation
) -> bool:
    """Whether the next step of a plan has what it needs from the results before it."""
    wanted = set(later[0].arguments.values())
    for step, message in results:
        lost = message.result.error or message.result.text.startswith("Found no similar")
        by_itself = step.skill in TELLING or step.skill in _MADE_BY.values()
        if lost and not by_itself:
            return False
    if "$boxes" in wanted and not boxes_found(conversation):
        return False
    return not ("$mask" in wanted and not conversation.masks)


def boxes_found(conversation: Conversation) -> list[list[float]]:
    """The boxes that the latest result lists."""
    last = conversation.messages[-1]
    if not isinstance(last, SkillMessage):
        last = next(m for m in reversed(conversation.messages) if isinstance(m, SkillMessage))
    found = re.findall(r"^.* (\[[0-9., ]+\])$", last.result.text, flags=re.MULTILINE)
    return [json.loads(box) for box in found]
