"""An LMM that says what it was told to say: the double for tests of everything around an LMM."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence

from ..skills.calls import SkillUse
from ..skills.errors import BadConfiguration, BadReply
from ..skills.images import ImageStore
from .conversation import AssistantMessage, Conversation
from .lmm import Event, Replied, SkillUseDelta, TextDelta, Usage

__all__ = ["Scripted", "ScriptedLMM"]

Scripted = str | SkillUse | Sequence[SkillUse] | AssistantMessage | Exception
"""An answer, a call, several calls at once, a whole message, or an error to raise."""


class ScriptedLMM:
    """Gives `replies` one after another, text word by word, and keeps what it was asked.

    A reply may also be a function of the conversation:

        lmm = ScriptedLMM([SkillUse(id="1", name="ocr", arguments={}), lambda seen: "It says hi."])
    """

    def __init__(
        self,
        replies: Iterable[Scripted | Callable[[Conversation], Scripted]],
        *,
        name: str = "scripted",
    ) -> None:
        self.name = name
        self.asked: list[Conversation] = []
        self._replies = list(replies)

    async def reply(
        self, conversation: Conversation, store: ImageStore, *, calls_allowed: bool = True
    ) -> AsyncGenerator[Event, None]:
        """Stream the next reply. Raises `BadConfiguration` when there is none left."""
        self.asked.append(conversation)
        message = self._next(conversation)
        if message.skill_uses and not calls_allowed:
            names = ", ".join(use.name for use in message.skill_uses)
            raise BadReply(f"reply {len(self.asked)} of the script calls {names}; none is allowed")
        words = re.findall(r"\s*\S+|\s+$", message.text)
        for word in words:
            yield TextDelta(word)
        for use in message.skill_uses:
            yield SkillUseDelta(use)
        yield Replied(message, Usage(completion_tokens=len(words) + len(message.skill_uses)))

    async def aclose(self) -> None:
        """Nothing is held."""

    def _next(self, conversation: Conversation) -> AssistantMessage:
        asked, written = len(self.asked), len(self._replies)
        if asked > written:
            raise BadConfiguration(f"the script has {written} replies and was asked for {asked}")
        reply = self._replies[asked - 1]
        if callable(reply):
            reply = reply(conversation)
        match reply:
            case Exception():
                raise reply
            case AssistantMessage():
                return reply
            case str():
                return AssistantMessage(text=reply)
            case SkillUse():
                return AssistantMessage(skill_uses=(reply,))
            case _:
                return AssistantMessage(skill_uses=tuple(reply))
