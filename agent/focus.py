"""Hundreds of skills for any LMM: it is shown the likely ones, and can look for more.

A prompt with every spec is slow and confuses most models. So the shortlist's encoder picks the
skills that are nearest to the last requests, those that were called stay, and one more skill,
`find_skills`, looks through all the others. Its calls are answered here and not by a worker.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..model.conversation import AssistantMessage, Conversation, UserMessage
from ..model.lmm import LMM, Event, Replied, SkillUseDelta, Usage
from ..skills.calls import SkillResult, SkillSpec, SkillUse
from ..skills.errors import BadConfiguration
from ..skills.images import ImageStore

if TYPE_CHECKING:
    from ..model.shortlist import Shortlist

__all__ = ["FIND_SKILLS", "FocusedLMM"]

FIND_SKILLS = SkillSpec(
    name="find_skills",
    description="Look for skills that are not listed here, when none of these fits.",
    parameters={
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "What the skill should do, in a few words."}
        },
        "required": ["query"],
        "additionalProperties": False,
    },
)
_REQUESTS = 3
"""So many of the last requests say what is likely."""
_SEARCHES = 2
"""So often an LMM may look for more skills before one reply."""
_FOUND = 5


class FocusedLMM:
    """An LMM that sees at most about `offered` skills at once, however many there are.

    Raises `BadConfiguration` when `offered` is less than 2.
    """

    def __init__(self, lmm: LMM, *, offered: int, shortlist: Shortlist | None = None) -> None:
        if offered < 2:
            raise BadConfiguration(f"an LMM has to be offered 2 skills or more, not {offered}")
        self.name = lmm.name
        self._lmm = lmm
        self._offered = offered
        self._given = shortlist

    async def reply(
        self, conversation: Conversation, store: ImageStore, *, calls_allowed: bool = True
    ) -> AsyncGenerator[Event, None]:
        """Stream a reply as the LMM gives it, without its searches for skills."""
        if len(conversation.skills) <= self._offered or not calls_allowed:
            async for event in self._lmm.reply(conversation, store, calls_allowed=calls_allowed):
                yield event
            return
        names = self._likely(conversation)
        seen, text, usage = conversation, "", Usage()
        for search in range(_SEARCHES + 1):
            view = _offering(seen, conversation.skills, names, more=search < _SEARCHES)
            async for event in self._lmm.reply(view, store):
                if isinstance(event, Replied):
                    message, usage = event.message, _sum(usage, event.usage)
                elif not (isinstance(event, SkillUseDelta) and _searches([event.use])):
                    yield event
            text += message.text
            others = tuple(use for use in message.skill_uses if not _searches([use]))
            if others or not _searches(message.skill_uses):
                break
            seen = seen.reply(message)
            for use in message.skill_uses:
                found = self._find(use, conversation.skills)
                names |= set(found)
                told = f"Found {len(found)} skills: {', '.join(found)}."
                seen = seen.add_result(SkillResult(id=use.id, name=use.name, text=told))
        yield Replied(AssistantMessage(text=text, skill_uses=others), usage)

    async def aclose(self) -> None:
        """Close the LMM behind it."""
        await self._lmm.aclose()

    @property
    def _shortlist(self) -> Shortlist:
        from ..model.shortlist import Shortlist

        if self._given is None:
            self._given = Shortlist()
        return self._given

    def _likely(self, conversation: Conversation) -> set[str]:
        """The names of the skills near to the last requests, and of those called before."""
        requests = [m.text for m in conversation.messages if isinstance(m, UserMessage)]
        names = {
            use.name
            for message in conversation.messages
            if isinstance(message, AssistantMessage)
            for use in message.skill_uses
        }
        for request in requests[-_REQUESTS:]:
            names |= set(self._nearest(request, conversation.skills, self._offered))
        return names

    def _find(self, use: SkillUse, skills: Sequence[SkillSpec]) -> list[str]:
        return self._nearest(str(use.arguments.get("query", "")), skills, _FOUND)

    def _nearest(self, text: str, skills: Sequence[SkillSpec], count: int) -> list[str]:
        near = self._shortlist.nearness(text, skills)
        return sorted(near, key=lambda name: -near[name])[:count]


def _offering(
    seen: Conversation, skills: Iterable[SkillSpec], names: set[str], *, more: bool
) -> Conversation:
    """What the LMM sees: the chosen skills in their own order, so that prompts stay alike."""
    chosen = [spec for spec in skills if spec.name in names]
    return seen.model_copy(update={"skills": (*chosen, *([FIND_SKILLS] if more else []))})


def _searches(uses: Iterable[SkillUse]) -> bool:
    return any(use.name == FIND_SKILLS.name for use in uses)


def _sum(one: Usage, other: Usage) -> Usage:
    return replace(
        other,
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        cached_tokens=one.cached_tokens + other.cached_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        first_token_seconds=one.first_token_seconds or other.first_token_seconds,
        seconds=one.seconds + other.seconds,
    )
