"""Calls and words that were there already: a small model now and then does a thing twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..skills.calls import SkillUse
from ..skills.skill import is_handle
from .conversation import AssistantMessage, Message, SkillMessage

__all__ = ["goes_round", "made_before"]

_LONGEST_ROUND = 32
_ROUNDS = 6
_LEAST = 48


def made_before(uses: Sequence[SkillUse], turn: Sequence[Message]) -> bool:
    """Whether all of some calls were made before in the messages of their turn.

    That is so where skill and arguments are the same, an image and what a call made of it being
    taken for the same image. Two images that were there before the turn are two; so nothing stands
    in the way of describing one after the other.
    """
    made: list[SkillUse] = []
    origins: dict[str, Any] = {}
    for message in turn:
        if isinstance(message, AssistantMessage):
            made += message.skill_uses
        elif isinstance(message, SkillMessage):
            use = next(use for use in reversed(made) if use.id == message.result.id)
            if taken := next(filter(is_handle, use.arguments.values()), None):
                origins |= dict.fromkeys(message.images, _traced(taken, origins))
    known = [(use.name, _traced(use.arguments, origins)) for use in made]
    return bool(uses) and all((use.name, _traced(use.arguments, origins)) in known for use in uses)


def goes_round(written: Sequence[int]) -> bool:
    """Whether the last tokens say one thing over and over.

    That is six times at least, and 48 tokens. Where always the likeliest token is taken, a model
    that has come so far does not come out of it again.
    """
    for period in range(1, _LONGEST_ROUND + 1):
        span = max(_LEAST, _ROUNDS * period)
        if len(written) >= span and written[-span:-period] == written[period - span :]:
            return True
    return False


def _traced(value: Any, origins: dict[str, Any]) -> Any:
    """An argument in which each image's handle is that of the image it was made of."""
    if isinstance(value, dict):
        return {key: _traced(item, origins) for key, item in value.items()}
    if isinstance(value, list):
        return [_traced(item, origins) for item in value]
    return origins.get(value, value) if isinstance(value, str) else value
