"""Playing a whole turn: the LMM calls, made-up findings come back, until it answers."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Sequence
from functools import cache

from ..model.conversation import AssistantMessage, Conversation, SkillMessage
from ..model.lmm import LMM, Replied
from ..skills.calls import SkillResult, SkillUse
from ..skills.errors import BadReply
from ..skills.images import ImageStore
from .bank import Bank
from .catalogue import catalogue
from .outcomes import fail, invent_result, tell_differently
from .slots import Filler

__all__ = ["EMPTY", "MOST_CALLS", "finding", "is_faithful", "one_reply", "play_turn"]

MOST_CALLS = 6
"""A turn that has called so often without an answer is given up."""

_TRIES = 50
EMPTY = re.compile(r"Found no |Found 0 |Read no |.*\bno text\b")
"""How a finding begins that nothing can be built on."""

_SIZE = (640, 480)


async def play_turn(lmm: LMM, conversation: Conversation, seed: str) -> Conversation:
    """Go on until the LMM answers; the findings are drawn at random from `seed`.

    A finding that others build on is never empty. Of the turns, one in ten has a call that fails.
    """
    rng, store = random.Random(seed), ImageStore()
    failing = rng.random() < 0.1
    for _ in range(MOST_CALLS):
        reply = await one_reply(lmm, conversation, store)
        conversation = conversation.reply(reply)
        if not reply.skill_uses:
            break
        for use in reply.skill_uses:
            result = fail(use, rng) if failing else finding(use, rng, use.name, store)
            conversation = conversation.add_result(result)
    return conversation


async def one_reply(lmm: LMM, conversation: Conversation, store: ImageStore) -> AssistantMessage:
    """The LMM's next reply; one that breaks off is told as its text."""
    reply = AssistantMessage()
    try:
        async for event in lmm.reply(conversation, store):
            if isinstance(event, Replied):
                reply = event.message
    except BadReply as error:
        # Wrong, but one case among many.
        return AssistantMessage(text=f"(no reply: {error})")
    return reply


@cache
def _bank() -> Bank:
    return Bank()


@cache
def _plain_image() -> bytes:
    """It stands for every image that a skill makes, for LMMs that look at them."""
    from PIL import Image

    written = io.BytesIO()
    Image.new("RGB", _SIZE, "grey").save(written, "PNG")
    return written.getvalue()


def finding(use: SkillUse, rng: random.Random, kind: str | None, store: ImageStore) -> SkillResult:
    """What the catalogue skill `kind`, or any other, might find for a call; never nothing.

    An image that it makes is put into `store`.
    """
    if kind is None or kind not in catalogue():
        told = tell_differently(_bank().findings, rng, _bank().nouns)
        return SkillResult(id=use.id, name=use.name, text=Filler.of(_bank(), rng).fill(told))
    image = store.add(_plain_image())
    results = (invent_result(kind, use, rng, _bank().nouns, image) for _ in range(_TRIES))
    return next((result for result in results if not EMPTY.match(result.text)), fail(use, rng))


def is_faithful(found: Sequence[SkillMessage], answer: str) -> bool:
    """Whether an answer gives what the last round of calls brought, and admits what failed.

    It has to hold every number of the summary, or most of its words where it has none, every
    line of a text that was read (the first ones of a long text), and of a failure most words of
    its reason.
    """
    return all(_gives(message, answer) for message in found)


def _gives(message: SkillMessage, answer: str) -> bool:
    said = _plain(answer)
    if message.result.error:
        return _mostly_in(message.result.error.message, said)
    first, *lines = message.result.text.split("\n")
    if first.startswith("Read "):
        return all(_plain(line) in said for line in lines[:8])
    numbers = re.findall(r"\d+(?:\.\d+)?", first)
    handles = list(message.images)
    if not (numbers or handles or _mostly_in(first, said)):
        return False
    parts = [rf"(?<!\d){re.escape(number)}(?!\d)" for number in numbers]
    parts += [rf"\b{handle}\b" for handle in handles]
    return all(re.search(part, answer) for part in parts)


def _mostly_in(text: str, said: str) -> bool:
    words = set(re.findall(r"\w+", _plain(text)))
    return len(words & set(re.findall(r"\w+", said))) >= 0.6 * len(words)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
